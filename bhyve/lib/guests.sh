# shellcheck shell=sh
# The four virtual machines: their disks, lines and ports, start and end. To be sourced by bhyve/lab.
# shellcheck disable=SC2154 # set by bhyve/lab

vm_name() {
	echo "pen-dsr-$1"
}

# memory_of GUEST: in MB. netmap's rings want some of the balancer's.
memory_of() {
	case $1 in
	lb) echo $((memory_each * 2)) ;;
	*) echo "$memory_each" ;;
	esac
}

cpus_of() {
	case $1 in
	lb) echo 2 ;;
	*) echo 1 ;;
	esac
}

# line_of GUEST console|agent: the null modem cable without its A (bhyve's end) or B (ours). Two for each guest.
line_of() {
	lo_number=$nmdm_base
	for lo_guest in $GUESTS; do
		if [ "$lo_guest" = "$1" ]; then break; fi
		lo_number=$((lo_number + 2))
	done
	if [ "$2" = agent ]; then lo_number=$((lo_number + 1)); fi
	echo "/dev/nmdm$lo_number"
}

# mac_of GUEST service|management
mac_of() {
	case $2 in
	service) mo_net=00 ;;
	*) mo_net=01 ;;
	esac
	printf '02:00:00:00:%s:%02d\n' "$mo_net" "$(guest_number "$1")"
}

# config_disk GUEST: a CD with the scripts, the program, and who this guest is.
config_disk() {
	run mkdir -p "$state/$1.d"
	run cp -R "$here/topology.sh" "$here/provision" "$here/lib" "$here/guest" "$state/$1.d/"
	run_line "echo '$1 vtnet1 vtnet0' >$state/$1.d/identity"
	if [ "$1" = lb ]; then run cp "$binary" "$state/$1.d/pen-dsr"; fi
	run makefs -t cd9660 -o rockridge -o label=PEN_DSR_LAB "$state/$1.iso" "$state/$1.d"
}

# guest_disk GUEST: the last guest takes the image itself, instead of a copy.
guest_disk() {
	if [ "$1" = be2 ]; then
		run mv "$state/base.img" "$state/$1.img"
	else
		run_line "dd if=$state/base.img of=$state/$1.img bs=1m conv=sparse 2>>$state/dd.log"
	fi
}

# start_guest GUEST: loaded by bhyveload, unless by firmware. vtnet0 is on the management switch, vtnet1 on the service
# switch, in the order of their slots. A VALE switch is there as long as somebody has a port on it.
start_guest() {
	sg_name=$(vm_name "$1")
	sg_rom=''
	made vm "$sg_name" # first: a load that fails has made it, too
	if [ -n "$firmware" ]; then
		sg_rom="-l bootrom,$firmware"
	else
		run bhyveload -m "$(memory_of "$1")M" -d "$state/$1.img" -c "$(line_of "$1" console)A" "$sg_name" ||
			fail "$EX_UNAVAILABLE" "bhyveload cannot load $1; FreeBSD images that are newer than the host may need --firmware (pkg install edk2-bhyve)"
	fi
	# shellcheck disable=SC2086 # words: there or not
	run daemon -p "$state/$1.pid" -o "$state/$1.log" bhyve -A -H -P -c "$(cpus_of "$1")" -m "$(memory_of "$1")M" \
		-s 0,hostbridge -s 1,lpc \
		-s "2,virtio-blk,$state/$1.img" \
		-s "3,ahci-cd,$state/$1.iso" \
		-s "4,virtio-net,$management_switch:$1,mac=$(mac_of "$1" management)" \
		-s "5,virtio-net,$service_switch:$1,mac=$(mac_of "$1" service)" \
		-l "com1,$(line_of "$1" console)A" -l "com2,$(line_of "$1" agent)A" $sg_rom \
		"$sg_name"
}

# is_ready GUEST: its agent answers.
is_ready() {
	on "$1" 'test -e /var/run/pen-dsr-lab.status' 10 >/dev/null 2>&1
}

await_guest() {
	if [ "$dry" = yes ]; then
		on "$1" 'test -e /var/run/pen-dsr-lab.status'
	elif ! wait_until "$boot_seconds" is_ready "$1"; then
		fail "$EX_TEMPFAIL" "$1 does not answer on its second serial port. What it says: bhyve/lab console $1; bhyve says: $(tail -n 3 "$state/$1.log")
  After that: bhyve/lab down"
	fi
	# shellcheck disable=SC2016 # the guest's
	on "$1" 'test "$(cat /var/run/pen-dsr-lab.status)" = 0 || { cat /var/log/pen-dsr-lab.log; false; }' ||
		fail "$EX_TEMPFAIL" "$1 could not be set up (provision); its log is above. bhyve/lab console $1, then bhyve/lab down"
}

# end_guest NAME: as when the plug is pulled; nothing on its disk is needed any more.
end_guest() {
	eg_pid=$state/${1#pen-dsr-}.pid
	run_line "bhyvectl --vm=$1 --force-poweroff || true"
	run_line "if [ -s $eg_pid ]; then pwait -t 10 \$(cat $eg_pid) || pkill -KILL -F $eg_pid bhyve || true; fi"
	run_line "bhyvectl --vm=$1 --destroy || true"
}

# on GUEST COMMAND [SECONDS]: its output and exit code. The same request is made again when an answer is damaged or
# does not come; the agent does not carry it out twice. 75, 124: it never came whole, or in time.
on() {
	if [ "$dry" = yes ]; then
		printf 'on %s: %s\n' "$1" "$2" >&3
		return 0
	fi
	if [ "$transport" = vagrant ]; then
		(cd -- "$here" && vagrant ssh "$1" --no-tty -c "sudo sh -c $(quoted "$2")") </dev/null
		return
	fi
	on_seconds=${3:-90}
	# Not a counter: in $(on ...), one would count for nobody.
	on_id=$(od -An -N 8 -t x1 /dev/urandom | tr -d ' \n')
	case $transport in
	fifo:*) on_in=${transport#fifo:}/$1.up on_out=${transport#fifo:}/$1.down ;;
	*) on_in=$(line_of "$1" agent)B on_out=$on_in ;;
	esac
	for _ in 1 2 3; do
		on_code=0
		timeout "$((on_seconds + 5))" sh "$here/exchange" "$on_in" "$on_out" "$on_id" "$on_seconds" "$2" || on_code=$?
		case $on_code in
		75 | 124) ;;
		*) return "$on_code" ;;
		esac
	done
	return "$on_code"
}
