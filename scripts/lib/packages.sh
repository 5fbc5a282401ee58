# shellcheck shell=sh
# Finds, and installs where they are missing, the commands that a script needs. To be sourced by sh or bash.
#
#   need_packages COMMAND:PACKAGE[,PACKAGE...][:WHY] ...
#       installs the packages of those commands that are not on PATH, all in one go; fails when one stays away
#   need_cargo
#       exports CARGO, a cargo that is new enough for ./Cargo.toml (its rust-version), and RUSTC and RUSTDOC where
#       it isn't the default one; installs one if there is none; fails with the remedy in its message
#
# Packages come by apt-get or FreeBSD's pkg, as root or through sudo (which may ask for a password only where
# somebody sits at a terminal). Nothing that is installed is removed or replaced, no service is started.
# PEN_DSR_INSTALL=no: only say what is missing. All messages go to standard error.

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # Debian's users do not have them
export PATH

need_packages() {
	np_commands='' np_packages=''
	for np_item in "$@"; do
		np_command=${np_item%%:*}
		np_rest=${np_item#*:}
		np_why=${np_rest#"${np_rest%%:*}"}
		if command -v "$np_command" >/dev/null 2>&1; then continue; fi
		np_commands="$np_commands $np_command"
		np_packages="$np_packages $(echo "${np_rest%%:*}" | tr ',' ' ')"
		echo "missing: $np_command${np_why:+ (${np_why#:})}" >&2
	done
	if [ -z "$np_commands" ]; then return 0; fi
	# shellcheck disable=SC2086 # lists of words
	install_packages $np_packages || return 1
	for np_command in $np_commands; do
		if ! command -v "$np_command" >/dev/null 2>&1; then
			echo "still missing: $np_command, though its package is installed" >&2
			return 1
		fi
		leave_service_off "$np_command"
	done
}

# need_certificates: what cargo checks its registry by. Debian's smallest systems come without.
need_certificates() {
	if ! command -v apt-get >/dev/null 2>&1 || [ -e /etc/ssl/certs/ca-certificates.crt ]; then return 0; fi
	echo "missing: the certificates of public authorities (for cargo)" >&2
	install_packages ca-certificates
}

need_cargo() {
	need_certificates || true # cargo itself tells, if it does not find any elsewhere either
	nc_least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml 2>/dev/null | head -n 1) || true
	nc_least=${nc_least:-1.95}
	if find_cargo "$nc_least"; then return 0; fi
	echo "missing: a cargo and rustc of at least $nc_least (to build)${found_instead:+; found $found_instead}" >&2
	if command -v rustup >/dev/null 2>&1 && may_install &&
		{ echo "installing toolchain $nc_least by rustup" >&2; } &&
		rustup toolchain install --profile minimal "$nc_least" >&2 && find_cargo "$nc_least"; then
		return 0
	fi
	nc_packages=$(cargo_packages "$nc_least")
	if [ -z "$nc_packages" ] && command -v apt-get >/dev/null 2>&1 && may_install && can_be_root; then
		as_root apt-get update -q >/dev/null 2>&1 </dev/null || true # lists that are absent or old
		nc_packages=$(cargo_packages "$nc_least")
	fi
	if [ -n "$nc_packages" ]; then
		# shellcheck disable=SC2086 # a list of words
		install_packages $nc_packages && find_cargo "$nc_least" && return 0
	fi
	echo "no cargo $nc_least to be had from this system's packages: install one by https://rustup.rs" >&2
	return 1
}

# --- what need_packages uses

may_install() {
	if [ "${PEN_DSR_INSTALL:-yes}" = no ]; then
		echo "PEN_DSR_INSTALL=no: nothing is installed" >&2
		return 1
	fi
}

# as_root COMMAND...
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif [ -t 0 ]; then
		sudo "$@"
	else
		sudo -n "$@"
	fi
}

can_be_root() {
	[ "$(id -u)" = 0 ] || { command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }
}

# install_packages PACKAGE...
install_packages() {
	if command -v apt-get >/dev/null 2>&1; then
		ip_how="apt-get install --no-install-recommends $*"
	elif command -v pkg >/dev/null 2>&1; then
		ip_how="pkg install $*"
	else
		echo "this system has neither apt-get nor pkg: install what matches Debian's packages $*" >&2
		return 1
	fi
	may_install || return 1
	if ! can_be_root; then
		echo "neither root nor sudo without a password: have it installed by: $ip_how" >&2
		return 1
	fi
	echo "installing: $*" >&2
	ip_log=$(mktemp)
	ip_status=0
	if command -v apt-get >/dev/null 2>&1; then
		install_by_apt "$@" >"$ip_log" 2>&1 </dev/null || ip_status=$?
	else
		as_root env ASSUME_ALWAYS_YES=yes pkg install -y "$@" >"$ip_log" 2>&1 </dev/null || ip_status=$?
	fi
	if [ "$ip_status" != 0 ]; then
		tail -n 15 "$ip_log" | sed 's/^/  /' >&2
		echo "could not be installed: $* (by: $ip_how)" >&2
	fi
	rm -f "$ip_log"
	return "$ip_status"
}

# Package lists are fetched only when the ones at hand do not do. With SYSTEMD_OFFLINE the maintainer scripts
# start no service: port 80 of this machine is none of ours.
install_by_apt() {
	if ! apt-get install -s --no-install-recommends --no-remove "$@" >/dev/null 2>&1; then
		as_root apt-get update -q
	fi
	as_root env DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 \
		apt-get install -y -q --no-install-recommends --no-remove -o DPkg::Lock::Timeout=120 "$@"
}

# leave_service_off COMMAND: Debian enables its service for the next start of the machine.
leave_service_off() {
	case $1 in
	sshd) ls_service=ssh ;;
	rsyslogd) ls_service=rsyslog ;;
	*) ls_service=$1 ;;
	esac
	if command -v systemctl >/dev/null 2>&1 && systemctl is-enabled --quiet "$ls_service" 2>/dev/null; then
		echo "the service $ls_service, installed just now, stays off: systemctl disable $ls_service" >&2
		as_root systemctl disable --quiet "$ls_service" >&2 || true
	fi
}

# --- what need_cargo uses

# version_at_least HAVE LEAST: by major and minor number.
version_at_least() {
	printf '%s\n%s\n' "$1" "$2" | awk -F. '
		NR == 1 { major = $1 + 0; minor = $2 + 0 }
		NR == 2 { exit !(major > $1 + 0 || (major == $1 + 0 && minor >= $2 + 0)) }'
}

# usable CARGO RUSTC LEAST: both run and are new enough.
usable() {
	us_rustc=$("$2" --version 2>/dev/null | awk '{ print $2 }')
	us_cargo=$("$1" --version 2>/dev/null | awk '{ print $2 }')
	if [ -z "$us_cargo" ] || [ -z "$us_rustc" ]; then return 1; fi
	if version_at_least "$us_rustc" "$3" && version_at_least "$us_cargo" "$3"; then return 0; fi
	found_instead="${found_instead:+$found_instead, }$2 $us_rustc"
	return 1
}

# find_cargo LEAST: the one of the caller's choice, PATH's, rustup's, then those with a version in their names
# (Ubuntu: cargo-1.95; the folder is where their rustdoc is).
find_cargo() {
	found_instead=''
	if [ -n "${CARGO:-}" ] && usable "$CARGO" "${RUSTC:-rustc}" "$1"; then
		export CARGO
		return 0
	fi
	for fc_folder in '' "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin/" /usr/bin/ /usr/local/bin/; do
		if usable "${fc_folder}cargo" "${fc_folder}rustc" "$1"; then
			CARGO=${fc_folder}cargo
			if [ -n "$fc_folder" ]; then RUSTC=${fc_folder}rustc RUSTDOC=${fc_folder}rustdoc; fi
			export_cargo
			return 0
		fi
	done
	if command -v rustup >/dev/null 2>&1; then
		fc_cargo=$(rustup which --toolchain "$1" cargo 2>/dev/null || true)
		fc_folder=$(dirname "${fc_cargo:-/nonexistent/cargo}")
		if usable "$fc_folder/cargo" "$fc_folder/rustc" "$1"; then
			CARGO=$fc_folder/cargo RUSTC=$fc_folder/rustc RUSTDOC=$fc_folder/rustdoc
			export_cargo
			return 0
		fi
	fi
	for fc_folder in /usr/lib/rust-*/bin; do
		if usable "$fc_folder/cargo" "$fc_folder/rustc" "$1"; then
			CARGO=$fc_folder/cargo RUSTC=$fc_folder/rustc RUSTDOC=$fc_folder/rustdoc
			export_cargo
			return 0
		fi
	done
	return 1
}

export_cargo() {
	export CARGO
	if [ -n "${RUSTC:-}" ]; then export RUSTC; fi
	if [ -n "${RUSTDOC:-}" ]; then export RUSTDOC; fi
}

# cargo_packages LEAST: the packages that bring one, the plain names first. Debian's stable releases have a
# newer one under the name cargo-web (for browsers), Ubuntu's under cargo-1.NN.
cargo_packages() {
	if ! command -v apt-cache >/dev/null 2>&1; then
		if command -v pkg >/dev/null 2>&1; then echo rust; fi
		return 0
	fi
	for cp_package in cargo cargo-web $(apt-cache search --names-only '^cargo-[0-9.]+$' | awk '{ print $1 }' | sort -V); do
		cp_version=$(apt-cache policy "$cp_package" 2>/dev/null | awk '/Candidate:/ { print $2 }') || true
		if version_at_least "${cp_version%%[-+]*}" "$1"; then
			echo "$cp_package rustc${cp_package#cargo}"
			return 0
		fi
	done
}
