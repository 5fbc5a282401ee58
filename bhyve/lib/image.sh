# shellcheck shell=sh
# From the image that was downloaded to the disk that the guests start from. To be sourced by bhyve/lab.
# shellcheck disable=SC2154 # set by bhyve/lab

# sha512_of FILE: by FreeBSD's sha512(1), or GNU's.
sha512_of() {
	if command -v sha512 >/dev/null 2>&1; then
		sha512 -q "$1"
	else
		sha512sum "$1" | cut -d ' ' -f 1
	fi
}

# listed_sum FILE IMAGE: what a list of checksums says of it, as FreeBSD writes them ("SHA512 (NAME) = SUM"), or GNU
# ("SUM  NAME").
listed_sum() {
	awk -v name="$(basename -- "$2")" '
		$1 == "SHA512" && $2 == "(" name ")" && $3 == "=" { print $4; exit }
		NF == 2 && ($2 == name || $2 == "*" name) { print $1; exit }' "$1"
}

# wanted_sum: what --sha512 says, or --checksums; in small letters.
wanted_sum() {
	ws_sum=$sha512
	if [ -z "$ws_sum" ]; then
		[ -r "$checksums" ] || fail "$EX_NOINPUT" "$checksums cannot be read; it is the CHECKSUM.SHA512-... beside the image on FreeBSD's servers"
		ws_sum=$(listed_sum "$checksums" "$image")
		[ -n "$ws_sum" ] || fail "$EX_DATAERR" "$checksums has no line for $(basename -- "$image"): it is another image's, or the file was renamed"
	fi
	case $ws_sum in
	*[!0-9a-fA-F]*) fail "$EX_DATAERR" "'$ws_sum' is no SHA-512 checksum" ;;
	esac
	[ "${#ws_sum}" = 128 ] || fail "$EX_DATAERR" "a SHA-512 checksum has 128 digits, '$ws_sum' has ${#ws_sum}"
	printf '%s\n' "$ws_sum" | tr '[:upper:]' '[:lower:]'
}

check_image_words() {
	[ -n "$image" ] || fail "$EX_USAGE" 'needs --image FreeBSD-...-amd64.raw.xz, a VM image from https://download.freebsd.org/releases/VM-IMAGES/'
	[ -n "$sha512$checksums" ] || fail "$EX_USAGE" 'needs --checksums CHECKSUM.SHA512-..., the file beside the image, or --sha512 HEX: an image that was not checked is not used'
	case $(basename -- "$image") in
	*zfs*) fail "$EX_DATAERR" "$image is a ZFS image, the lab takes those with UFS (the one without -zfs in its name)" ;;
	*.raw.xz | *.raw) ;;
	*) fail "$EX_DATAERR" "$image is neither .raw.xz nor .raw: bhyve takes no qcow2, vhd or vmdk" ;;
	esac
}

verify_image() {
	heading 'The image is the one that was published'
	if [ "$dry" = yes ]; then
		if [ -n "$checksums" ]; then quoted awk "/($(basename -- "$image"))/ { print \$4 }" "$checksums"; fi
		quoted sha512 -q "$image"
		return 0
	fi
	[ -r "$image" ] || fail "$EX_NOINPUT" "$image cannot be read"
	wanted=$(wanted_sum) || exit
	found=$(sha512_of "$image")
	if [ "$found" != "$wanted" ]; then
		fail "$EX_DATAERR" "$image is not what was published; download it again.
  SHA-512 is        $found
  and should be     $wanted"
	fi
	echo "SHA-512 of $image is as published"
}

# unpack_image: holes stay holes, so that copies are small.
unpack_image() {
	heading "The guests' disk"
	case $image in
	*.xz) run_line "xz -dc $(quoted "$image") | dd of=$state/base.img obs=1m conv=sparse 2>$state/dd.log" ;;
	*) run_line "dd if=$(quoted "$image") of=$state/base.img bs=1m conv=sparse 2>$state/dd.log" ;;
	esac
	if [ "$dry" = no ] && [ ! -s "$state/base.img" ]; then fail "$EX_DATAERR" "$image could not be unpacked: $(cat "$state/dd.log")"; fi
}

# root_partition UNIT: the device of its UFS, such as md0p4. The label is not asked: the host may have one of that name.
root_partition() {
	# The kernel looks at the new disk in its own time.
	if [ "$dry" = no ]; then wait_until 10 gpart show -p "$1" >/dev/null 2>&1 || true; fi
	rp_table=$(ask '' gpart show -p "$1") || fail "$EX_DATAERR" "$image has no partition table that gpart(8) reads"
	if [ "$dry" = yes ]; then
		echo "${1}p4"
		return 0
	fi
	rp_found=$(printf '%s\n' "$rp_table" | awk '$4 == "freebsd-ufs" { print $3; exit }')
	if [ -z "$rp_found" ]; then
		fail "$EX_DATAERR" "$image has no partition of type freebsd-ufs (ZFS images are not supported): take the one without -zfs in its name"
	fi
	echo "$rp_found"
}

# hook_image: what the image itself has to say: do not ask the network, read the config disk. All else is there.
hook_image() {
	unit=$(ask md0 mdconfig -a -t vnode -f "$state/base.img") || fail "$EX_UNAVAILABLE" "mdconfig refused $state/base.img"
	made md "$unit"
	partition=$(root_partition "$unit") || exit
	run mkdir -p "$state/root"
	run mount -t ufs "/dev/$partition" "$state/root"
	made mount "$state/root"
	run mkdir -p "$state/root/lab"
	run cp "$here/guest/rc.local" "$state/root/etc/rc.local"
	run cp "$here/guest/rc.conf.local" "$state/root/etc/rc.conf.local"
	run cp "$here/guest/loader.conf.local" "$state/root/boot/loader.conf.local"
	if [ -n "$firmware" ]; then run_line "echo 'console=\"comconsole\"' >>$state/root/boot/loader.conf.local"; fi
	if [ "$finished" = yes ]; then run_line "echo 'hw.vtnet.csum_disable=\"1\"' >>$state/root/boot/loader.conf.local"; fi
	run rm -f "$state/root/firstboot"
	run umount "$state/root"
	unmade mount "$state/root"
	run mdconfig -d -u "$unit"
	unmade md "$unit"
}
