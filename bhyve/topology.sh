# shellcheck shell=sh
# shellcheck disable=SC2034 # read by those who source this
# Who is in the lab, and by which addresses. To be sourced: by bhyve/lab on the host, by provision and tools on the
# guests. The addresses are those of the Linux lab (scripts/lab).
#
#   guest    service          IPv6        management
#   client   10.0.0.1, .3-.9  fd00::1...  10.99.0.1     asks; eight addresses, so that the hash has something to choose
#   lb       10.0.0.2         fd00::2     10.99.0.2     runs pen-dsr on the service interface
#   be1      10.0.0.11        fd00::11    10.99.0.11    serves; has the VIPs on lo0
#   be2      10.0.0.12        fd00::12    10.99.0.12    the same

GUESTS='client lb be1 be2'
BACKENDS='be1 be2'
VIP4=10.0.0.100
VIP6=fd00::100
NET4=10.0.0
NET6=fd00:
MANAGEMENT_NET=10.99.0
CLIENT_NUMBERS='1 3 4 5 6 7 8 9'

# What guest/www sends for /download and /slow: the numbers up to these, one a line. Both ends can make them for comparison.
DOWNLOAD_LINES=1400000 # 10088896 bytes
SLOW_SECONDS=15
SLOW_LINES=1000 # a second

# guest_number GUEST: the last part of its addresses, and of its MAC (as hexadecimal digits).
guest_number() {
	case $1 in
	client) echo 1 ;;
	lb) echo 2 ;;
	be1) echo 11 ;;
	be2) echo 12 ;;
	*) return 1 ;;
	esac
}

# guest_numbers GUEST: of all its service addresses.
guest_numbers() {
	case $1 in
	client) echo "$CLIENT_NUMBERS" ;;
	*) guest_number "$1" ;;
	esac
}

# client_addresses VIP: those of the client in the VIP's family.
client_addresses() {
	for ca_number in $CLIENT_NUMBERS; do
		case $1 in
		*:*) echo "$NET6:$ca_number" ;;
		*) echo "$NET4.$ca_number" ;;
		esac
	done
}

# numbers FROM TO: one a line. Not by seq(1), which on FreeBSD writes 1000000 as 1e+06.
numbers() {
	awk -v from="$1" -v to="$2" 'BEGIN { for (n = from; n <= to; n++) printf "%d\n", n }'
}
