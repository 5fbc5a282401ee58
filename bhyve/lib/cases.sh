# shellcheck shell=sh
# What is claimed, end to end: the cases of the Linux lab (tests/lab) that FreeBSD's base system can ask and serve.
# To be sourced by bhyve/lab. Each case leaves the balancer running with both backends up.
#
# What a guest does is a word of guest/tools; `tool GUEST WORD...` runs it there.
# shellcheck disable=SC2034,SC2154 # shared with bhyve/lab

# What `lab test CASE...` can be told.
CASES='serve fragments replies host backend reload restart'

# tool GUEST WORD...
tool() {
	t_guest=$1
	shift
	on "$t_guest" "sh $guest_files/tools $*"
}

# server_state BACKEND: the word behind "state".
server_state() {
	tool lb ctl servers | awk -v name="$1" '$2 == name { for (i = 3; i < NF; i++) if ($i == "state") print $(i + 1) }' | tr -d ':,'
}

# is_state BACKEND STATE
is_state() {
	[ "$(server_state "$1")" = "$2" ]
}

both_are_up() {
	is_state be1 up && is_state be2 up
}

# names_in "SOURCE NAME" LINES: the names, each once, in one line.
names_in() {
	printf '%s\n' "$1" | awk 'NF { print $2 }' | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# clients_of BACKEND LINES: those that it answered.
clients_of() {
	printf '%s\n' "$2" | awk -v name="$1" '$2 == name { print $1 }'
}

the_balancer_starts() {
	heading 'The balancer starts'
	options_before=$(tool lb options)
	tool lb configure be1 be2 || true
	claim 'pen-dsr starts on the service interface' tool lb begin
	claim 'it has netmap(4) open' tool lb driver
	claim 'both backends are up within 20 s' wait_until 20 both_are_up
}

# each_client_is_served VIP: by one backend, the one that explain names, and seen there by its own address. TCP and UDP.
each_client_is_served() {
	heading "Web and echo at $1"
	for guest in $BACKENDS; do tool "$guest" seen >/dev/null || true; done
	said=$(tool lb explain-all "$1" || true)
	answers=$(tool client get-all "$1" || true)
	claim 'all clients get an answer, from the backend that explain names' same 'who answered' "$answers" "$said"
	claim 'both backends take part' same 'who takes part' "$(names_in "$answers")" 'be1 be2'
	echoes=$(tool client echo-all "$1" || true)
	claim 'a datagram of each client returns' same 'what returned' "$echoes" "$(client_addresses "$1" | sed 's/$/ ok/')"
	for guest in $BACKENDS; do
		seen=$(tool "$guest" seen || true)
		wanted=$(for source in $(clients_of "$guest" "$answers"); do printf 'echo %s\nhttp %s\n' "$source" "$source"; done | sort)
		claim "$guest has seen its clients by their own addresses, TCP and UDP, and nobody else" same 'what it logged' "$seen" "$wanted"
	done
}

pings_and_fragments() {
	heading "Pings and fragments at $1"
	claim 'pings are answered' tool client ping "$1"
	claim 'pings in fragments are answered' tool client ping "$1" 3000
	claim 'a datagram in fragments returns' tool client echo-long "$1"
}

# is_under_a_tenth LESS MORE: both in bytes. Nothing read at all would mean that it was not asked.
is_under_a_tenth() {
	[ "$1" -gt 0 ] && [ "$(($1 * 10))" -lt "$2" ]
}

replies_bypass_the_balancer() {
	heading "The way of a download from $1"
	before=$(tool lb received || true)
	sum=$(tool client download "$1" || true)
	after=$(tool lb received || true)
	wanted=$(tool client expect download || true)
	claim 'ten megabytes come whole' same 'its checksum' "$sum" "$wanted"
	claim 'the balancer has read less than a tenth of them' is_under_a_tenth "$((${after:-0} - ${before:-0}))" "${wanted##* }"
}

# The same interface serves the balancer's own TCP and ping, by netmap's host rings.
the_balancers_host_is_alive() {
	heading "The balancer's own traffic, beside a download"
	tool client slow-begin "$VIP4" || true
	claim 'it answers pings at its own address' tool client ping "$NET4.2"
	claim 'and large ones' tool client ping "$NET4.2" 3000
	claim 'and at its IPv6 address' tool client ping "$NET6:2"
	claim 'its own TCP service answers' tool client daytime "$NET4.2"
	if [ "$transport" != vagrant ]; then claim 'its management address answers' tool client ping "$MANAGEMENT_NET.2"; fi
	claim 'the download is going on' tool client slow-alive
	claim 'and comes whole' same 'its checksum' "$(tool client slow-end || true)" "$(tool client expect slow || true)"
}

only_is_answering() {
	[ "$(names_in "$(tool client get-all "$1")")" = "$2" ]
}

a_backend_goes_and_returns() {
	heading 'A backend goes down and returns'
	earlier=$(tool client get-all "$VIP4" || true)
	tool be1 service down || true
	claim 'pen-dsr finds it down within 20 s' wait_until 20 is_state be1 down
	claim 'the other one serves everybody' only_is_answering "$VIP4" be2
	tool be1 service up || true
	claim 'pen-dsr finds it up again within 20 s' wait_until 20 is_state be1 up
	claim 'every client has its backend back' same 'who answers' "$(tool client get-all "$VIP4" || true)" "$earlier"
}

the_configuration_is_reloaded() {
	heading 'A reload'
	tool lb configure be2 || true
	tool lb reload || true
	claim 'a backend that is no longer listed gets nobody' wait_until 10 only_is_answering "$VIP4" be2
	tool lb configure be1 be2 || true
	tool lb reload || true
	claim 'and is back when it is listed again' wait_until 20 both_are_up
	claim 'both answer' wait_until 10 only_is_answering "$VIP4" 'be1 be2'
}

# Its backend is drained and the balancer killed, while a client downloads.
a_connection_outlives_the_balancer() {
	heading "A slow download from $1, and what happens meanwhile"
	backend=$(tool client get "$1" || true)
	[ -n "$backend" ] || backend=be1
	tool client slow-begin "$1" || true
	sleep_unless_dry 3
	claim "$backend, which serves it, can be drained" tool lb ctl drain "$backend"
	claim 'the balancer is killed' tool lb end KILL
	claim 'and started again' tool lb begin
	claim 'both backends are up within 20 s' wait_until 20 both_are_up
	claim 'the download is still going on' tool client slow-alive
	claim 'and comes whole' same 'its checksum' "$(tool client slow-end || true)" "$(tool client expect slow || true)"
}

sleep_unless_dry() {
	if [ "$dry" = no ]; then sleep "$1"; fi
}

nobody_answers() {
	if [ "$dry" = yes ]; then
		tool client get "$1"
	else
		! tool client get "$1" >/dev/null 2>&1
	fi
}

the_balancer_ends() {
	heading 'The balancer ends'
	claim 'TERM ends it' tool lb end TERM
	claim 'the interface has the flags and options that it had' same 'ifconfig' "$(tool lb options || true)" "$options_before"
	claim 'the VIP no longer answers' nobody_answers "$VIP4"
	claim "the balancer's machine does" tool client ping "$NET4.2"
}

# is_wanted CASE: it is in $cases.
is_wanted() {
	case " $cases " in
	*" $1 "*) return 0 ;;
	esac
	return 1
}

# run_cases: those in $cases, between the start and the end of the balancer; 0 when every claim holds.
run_cases() {
	the_balancer_starts
	for vip in "$VIP4" "$VIP6"; do
		if is_wanted serve; then each_client_is_served "$vip"; fi
		if is_wanted fragments; then pings_and_fragments "$vip"; fi
		if is_wanted replies; then replies_bypass_the_balancer "$vip"; fi
	done
	if is_wanted host; then the_balancers_host_is_alive; fi
	if is_wanted backend; then a_backend_goes_and_returns; fi
	if is_wanted reload; then the_configuration_is_reloaded; fi
	if is_wanted restart; then
		for vip in "$VIP4" "$VIP6"; do a_connection_outlives_the_balancer "$vip"; done
	fi
	the_balancer_ends
	heading 'Result'
	if [ "$dry" = no ]; then echo "$claims_held claims held, $claims_failed did not."; fi
	[ "$claims_failed" = 0 ]
}
