# shellcheck shell=sh
# What the host has to be and have, each with its remedy. To be sourced by bhyve/lab.
# shellcheck disable=SC2154 # set by bhyve/lab

HOST_MEGABYTES=1024 # left to the host beside the guests
DISK_GIGABYTES=16   # four copies of an image, without its holes

# need CODE MESSAGE COMMAND...: when dry only prints the command.
need() {
	n_code=$1 n_message=$2
	shift 2
	if [ "$dry" = yes ]; then
		quoted "$@"
	elif ! "$@" >/dev/null 2>&1; then
		fail "$n_code" "$n_message"
	fi
}

is_freebsd() {
	[ "$(uname -s)" = FreeBSD ]
}

is_amd64() {
	[ "$(uname -m)" = amd64 ]
}

# need_memory: for all guests and the host.
need_memory() {
	nm_megabytes=$HOST_MEGABYTES
	for guest in $GUESTS; do nm_megabytes=$((nm_megabytes + $(memory_of "$guest"))); done
	nm_bytes=$(ask '' sysctl -n hw.physmem)
	if [ "$dry" = yes ]; then return 0; fi
	nm_found=$(printf '%s\n' "$nm_bytes" | awk '{ printf "%d\n", $1 / 1048576 }')
	if [ "$nm_found" -lt "$nm_megabytes" ]; then
		fail "$EX_UNAVAILABLE" "too little memory: $nm_found MB, the guests and the host need $nm_megabytes; --memory takes less for the guests (192 at least)"
	fi
}

need_room() {
	nr_table=$(ask '' df -k "$(dirname "$state")")
	if [ "$dry" = yes ]; then return 0; fi
	nr_free=$(printf '%s\n' "$nr_table" | awk 'NR == 2 { printf "%d\n", $4 / 1048576 }')
	if [ "$nr_free" -lt "$DISK_GIGABYTES" ]; then
		fail "$EX_UNAVAILABLE" "too little room in $(dirname "$state"): $nr_free GB, up to $DISK_GIGABYTES are needed; --state puts it elsewhere"
	fi
}

check_host() {
	heading 'What the host needs'
	if [ "$dry" = yes ]; then
		echo 'uname -s'
		echo 'uname -m'
		echo 'id -u'
	else
		is_freebsd || fail "$EX_UNAVAILABLE" "needs FreeBSD 12.1 or newer, this is $(uname -s). The same guests: bhyve/Vagrantfile. The commands: --dry-run"
		is_amd64 || fail "$EX_UNAVAILABLE" "needs an amd64 host, this is $(uname -m)"
		[ "$(id -u)" = 0 ] || fail "$EX_NOPERM" "must be root (vmm, md and netmap are root's): su -m root -c '$0 ...', or doas, sudo"
	fi
	for program in bhyve bhyveload bhyvectl mdconfig gpart makefs xz daemon timeout; do
		need "$EX_UNAVAILABLE" "$program is missing; it is part of FreeBSD's base system, 12.1 and newer (WITHOUT_BHYVE in src.conf leaves bhyve out)" \
			command -v "$program"
	done
	need "$EX_UNAVAILABLE" 'vmm is not loaded: kldload vmm (at every start: sysrc kld_list+=vmm). It needs a CPU with VT-x and EPT, or AMD-V and RVI, switched on in the firmware' \
		kldstat -q -m vmm
	need "$EX_UNAVAILABLE" 'nmdm, the serial lines to the guests, is not loaded: kldload nmdm (at every start: sysrc kld_list+=nmdm)' \
		kldstat -q -m nmdm
	need "$EX_UNAVAILABLE" 'there is no /dev/netmap: GENERIC has netmap; else kldload netmap, or "device netmap" in the kernel configuration' \
		ls /dev/netmap
	need_memory
	need_room
	if [ -n "$firmware" ]; then
		need "$EX_NOINPUT" "$firmware cannot be read: pkg install edk2-bhyve (FreeBSD 12: uefi-edk2-bhyve), or leave --firmware out: bhyveload needs none" \
			test -r "$firmware"
	fi
	need "$EX_NOINPUT" "$binary cannot be run here: build it for FreeBSD (cargo build --release, or scripts/freebsd-check), or name it by --binary" \
		test -x "$binary"
	for guest in $GUESTS; do
		need "$EX_CANTCREAT" "a virtual machine $(vm_name "$guest") exists already: bhyve/lab down, or bhyvectl --vm=$(vm_name "$guest") --destroy" \
			test ! -e "/dev/vmm/$(vm_name "$guest")"
	done
}
