#!/bin/bash
# The demo on a network of namespaces. scripts/demo runs it in scripts/sandbox: demo-network.sh PEN-DSR
set -euo pipefail

VIP4=10.0.0.100
VIP6=fd00::100
BACKENDS=(be1 be2 be3)
CLIENTS=(1 3 4 5 6 7 8 9) # the last part of the client's addresses; .2 is the balancer's
REQUESTS=4                # per client
DOWNLOAD=10000000         # bytes
PEN_DSR_WORDS=(-i eth0 --vip "$VIP6" "$VIP4" 10.0.0.11 10.0.0.12 10.0.0.13)

cd "$(dirname "$0")/../.."
# shellcheck source=scripts/lib/checks.sh
. scripts/lib/checks.sh
program=$(realpath "$1")
# In memory: when the demo is killed, its files and programs go with the sandbox.
work=$(mktemp -d)
mount -t tmpfs pen-dsr-demo "$work"
trap 'umount -l "$work"; rmdir "$work"' EXIT
declare -A answered        # client -> the backend that answered it
# shellcheck source=scripts/lib/demo-proxy.sh
. scripts/lib/demo-proxy.sh

on() {
	scripts/lab exec "$@"
}

# fetch CLIENT VIP [PATH [SECONDS]]: by curl, from that address of the client's.
fetch() {
	local host=$2
	if [[ $host = *:* ]]; then host="[$host]"; fi
	on client curl --silent --fail --noproxy '*' --max-time "${4:-2}" --interface "$1" "http://$host/${3:-}" 2>>"$work/curl.log"
}

# clients VIP: the client's addresses of that family.
clients() {
	local number
	for number in "${CLIENTS[@]}"; do
		if [[ $1 = *:* ]]; then echo "fd00::$number"; else echo "10.0.0.$number"; fi
	done
}

# One process each, as other users can't be had in every namespace.
start_backend() {
	local name=$1 home=$work/$1
	mkdir -p "$home/tmp"
	cat >"$home/nginx.conf" <<-END
		daemon off;
		master_process off;
		user root;
		pid $home/nginx.pid;
		error_log $home/error.log;
		events { worker_connections 256; }
		http {
			log_format who '\$remote_addr \$server_addr \$uri';
			access_log $home/access.log who;
			client_body_temp_path $home/tmp/body;
			proxy_temp_path $home/tmp/proxy;
			fastcgi_temp_path $home/tmp/fastcgi;
			uwsgi_temp_path $home/tmp/uwsgi;
			scgi_temp_path $home/tmp/scgi;
			sendfile on;
			server {
				listen 80;
				listen [::]:80;
				location = / { return 200 "$name\n"; }
				location = /forwarded { return 200 "\$http_x_forwarded_for\n"; }
				location = /who { return 200 "\$remote_addr\n"; }
				location = /download { root $work; }
				# By the server: a client that only reads slowly has it all in its buffer soon.
				location = /slow-download { alias $work/download; limit_rate 1m; }
			}
		}
	END
	scripts/lab exec "$name" nginx -p "$home" -c "$home/nginx.conf" </dev/null >"$home/nginx.log" 2>&1 &
}

backend_answers() {
	fetch 10.0.0.1 "10.0.0.1${1#be}" >/dev/null && fetch fd00::1 "fd00::1${1#be}" >/dev/null
}

vips_answer() {
	kill -0 "$pen_dsr" 2>/dev/null || return 1
	fetch 10.0.0.1 "$VIP4" >/dev/null && fetch fd00::1 "$VIP6" >/dev/null
}

# What pen-dsr may change on the balancer's machine, to compare before and after.
balancer_settings() {
	on lb ip -details link show eth0 | grep -o 'promiscuity [0-9]*\|allmulti [0-9]*\|<.*>'
	if command -v ethtool >/dev/null; then on lb ethtool -k eth0; fi
	if command -v nft >/dev/null; then on lb nft list ruleset; fi
	if command -v tc >/dev/null; then on lb tc qdisc show dev eth0; fi
}

# traffic HOST: bytes received and sent on eth0.
traffic() {
	# shellcheck disable=SC2016 # awk's own
	on "$1" awk '$1 == "eth0:" { print $2, $10 }' /proc/net/dev
}

# name_of: backends' addresses into their names.
name_of() {
	sed 's/10\.0\.0\.1\([1-3]\)$/be\1/'
}

# explained CLIENT: the name of the backend that pen-dsr explain says.
explained() {
	"$program" "${PEN_DSR_WORDS[@]}" explain "$1" 2>>"$work/explain.log" </dev/null |
		grep -o '10\.0\.0\.1[1-3]' | head -n 1 | name_of || true
}

show_network() {
	cat <<-END
		  client    10.0.0.1 .3-.9    fd00::1 ::3-::9     curl
		  balancer  10.0.0.2          fd00::2             pen-dsr, for the VIPs $VIP4 and $VIP6
		  be1-be3   10.0.0.11-.13     fd00::11-::13       nginx, with the VIPs on lo
		  All on one segment, each in a network namespace of its own.
	END
}

start_network() {
	heading 'Network'
	scripts/lab up --backends "${#BACKENDS[@]}"
	show_network
	head -c "$DOWNLOAD" /dev/urandom >"$work/download"
	chmod 755 "$work"
	for name in "${BACKENDS[@]}"; do start_backend "$name"; done
	for name in "${BACKENDS[@]}"; do
		check "$name answers on its own addresses" wait_until 10 backend_answers "$name"
	done
}

# The control socket and the flows are in the demo's own directory.
run_balancer() {
	echo "+ pen-dsr ${PEN_DSR_WORDS[*]} -C CONTROL --flow-file FLOWS"
	scripts/lab exec lb "$program" "${PEN_DSR_WORDS[@]}" -C "$work/control" --flow-file "$work/flows" \
		</dev/null >>"$work/pen-dsr.log" 2>&1 &
	pen_dsr=$!
}

start_balancer() {
	heading 'Balancer'
	balancer_settings >"$work/before"
	run_balancer
	check 'both VIPs answer' wait_until 10 vips_answer
	sed 's/^/  | /' "$work/pen-dsr.log"
	if ! kill -0 "$pen_dsr" 2>/dev/null; then
		echo 'demo: pen-dsr ended at once; so does the demo' >&2
		exit 1
	fi
}

# who_answers VIP: the table, and what it must show.
who_answers() {
	local vip=$1 client answers said mismatches=0 unsteady=0 unanswered=0 request
	heading "Who answers for $vip"
	for name in "${BACKENDS[@]}"; do : >"$work/$name/access.log"; done
	printf '  %-10s %-18s %s\n' client 'answers from' 'pen-dsr explain'
	for client in $(clients "$vip"); do
		answers=''
		for ((request = 0; request < REQUESTS; request++)); do
			answers+="$(fetch "$client" "$vip" || echo none) "
		done
		answered[$client]=${answers%% *}
		said=$(explained "$client")
		printf '  %-10s %-18s %s\n' "$client" "$answers" "${said:-nothing}"
		if [[ $answers = *none* ]]; then unanswered=$((unanswered + 1)); fi
		if [ "$(tr ' ' '\n' <<<"${answers% }" | sort -u | wc -l)" != 1 ]; then unsteady=$((unsteady + 1)); fi
		if [ "$said" != "${answered[$client]}" ]; then mismatches=$((mismatches + 1)); fi
	done
	check "every request was answered (clients with one that wasn't: $unanswered)" [ "$unanswered" = 0 ]
	check "each client stays with its backend (exceptions: $unsteady)" [ "$unsteady" = 0 ]
	check "pen-dsr explain names that backend (mismatches: $mismatches of ${#CLIENTS[@]})" [ "$mismatches" = 0 ]
}

explain_in_full() {
	heading 'Why'
	echo "+ pen-dsr ${PEN_DSR_WORDS[*]} explain 10.0.0.1 fd00::1"
	check 'pen-dsr explain needs no network' unshare --net "$program" "${PEN_DSR_WORDS[@]}" explain 10.0.0.1 fd00::1
}

shares_are_spread() {
	local name
	for name in "${BACKENDS[@]}"; do
		if ! grep -qx "$name" <<<"$(printf '%s\n' "${answered[@]}")"; then return 1; fi
	done
}

# logs_tell_clients VIP: each log names just the clients that its backend answered, every time.
logs_tell_clients() {
	local vip=$1 name client n
	heading "Whom the backends saw, for $vip"
	for name in "${BACKENDS[@]}"; do
		for client in $(clients "$vip"); do
			if [ "${answered[$client]}" = "$name" ]; then
				for ((n = 0; n < REQUESTS; n++)); do echo "$client $vip /"; done
			fi
		done | sort >"$work/$name/expected"
	done
	wait_until 2 logs_are_as_expected || true # nginx writes when the client has its answer already
	for name in "${BACKENDS[@]}"; do
		printf '  %s  %s\n' "$name" "$(sort "$work/$name/access.log" | cut -d ' ' -f 1 | uniq -c | awk '{ printf "%s (%s times)  ", $2, $1 }')"
	done
	check "the clients' own addresses, as often as they asked, and no other" logs_are_as_expected
}

logs_are_as_expected() {
	local name
	for name in "${BACKENDS[@]}"; do
		sort "$work/$name/access.log" | cmp -s - "$work/$name/expected" || return 1
	done
}

# replies_bypass_balancer VIP CLIENT
replies_bypass_balancer() {
	local vip=$1 client=$2 backend=${answered[$2]} host
	declare -A before after
	heading "The way of a $((DOWNLOAD / 1000000)) MB download from $vip"
	if [ ! -e "/run/netns/$backend" ]; then
		check "a backend serves $client" false
		return
	fi
	for host in client lb "$backend"; do before[$host]=$(traffic "$host"); done
	fetch "$client" "$vip" download 30 >"$work/received" || true
	for host in client lb "$backend"; do after[$host]=$(traffic "$host"); done
	printf '  %-10s %14s %14s   bytes on eth0\n' '' received sent
	for host in client lb "$backend"; do
		read -r received sent _ <<<"$(paste -d ' ' <(echo "${after[$host]}") <(echo "${before[$host]}") | awk '{ print $1 - $3, $2 - $4 }')"
		printf '  %-10s %14s %14s\n' "${host/#lb/balancer}" "$received" "$sent"
		case $host in
		client) client_received=$received ;;
		lb) balancer_received=$received balancer_sent=$sent ;;
		*) backend_sent=$sent ;;
		esac
	done
	check 'the file came whole' cmp -s "$work/download" "$work/received"
	check "it came from $backend, by the counters of both ends" [ "$backend_sent" -ge "$DOWNLOAD" -a "$client_received" -ge "$DOWNLOAD" ]
	check 'the requests and acknowledgements crossed the balancer' [ "$balancer_received" -gt 0 -a "$balancer_sent" -gt 0 ]
	check "the reply did not (balancer's bytes are under a tenth of the file's)" \
		[ "$((balancer_received * 10))" -lt "$DOWNLOAD" -a "$((balancer_sent * 10))" -lt "$DOWNLOAD" ]
}

# ctl COMMAND...
ctl() {
	echo "+ pen-dsr ctl $*"
	"$program" ctl -C "$work/control" "$@" | sed 's/^/  | /'
}

# answers_elsewhere CLIENT VIP BACKEND: somebody, but not that one.
answers_elsewhere() {
	local name
	name=$(fetch "$1" "$2") && [ "$name" != "$3" ]
}

answers_as_before() {
	[ "$(fetch "$1" "$2")" = "${answered[$1]}" ]
}

# change_meanwhile CLIENT: a download goes on while its backend is drained and the balancer killed.
change_meanwhile() {
	local client=$1 backend=${answered[$1]} download address lines
	heading "A slow download from $VIP4, and what happens meanwhile"
	address=10.0.0.1${backend#be}
	echo "+ curl http://$VIP4/slow-download   (from $client, served by $backend)"
	on client curl --silent --fail --noproxy '*' --max-time 60 --interface "$client" \
		"http://$VIP4/slow-download" >"$work/slow" 2>>"$work/curl.log" &
	download=$!
	check 'the balancer remembers its flow' wait_until 5 has_flows "$address"
	ctl drain "$address"
	check "a new request of that client is answered by another than $backend" answers_elsewhere "$client" "$VIP4" "$backend"
	ctl weight 10.0.0.11 5
	echo '+ kill -KILL pen-dsr'
	lines=$(wc -l <"$work/pen-dsr.log")
	kill -KILL "$pen_dsr"
	wait "$pen_dsr" 2>/dev/null || true
	run_balancer
	check 'both VIPs answer again' wait_until 10 vips_answer
	tail -n "+$((lines + 1))" "$work/pen-dsr.log" | sed 's/^/  | /'
	check 'the download was still going on' kill -0 "$download"
	ctl drain "$address"
	check 'it ended well' wait "$download"
	check 'the file came whole' cmp -s "$work/download" "$work/slow"
	check "$backend is drained when its last flow has ended" wait_until 10 is_drained "$address"
	ctl servers
	ctl undrain "$address"
	check "$client is served by $backend as before" answers_as_before "$client" "$VIP4"
}

# has_flows BACKEND
has_flows() {
	! "$program" ctl -C "$work/control" flows "$1" | grep -q ': 0 flows'
}

# is_drained BACKEND
is_drained() {
	"$program" ctl -C "$work/control" server "$1" | grep -q 'state drained'
}

log_is_longer_than() {
	[ "$(wc -l <"$work/pen-dsr.log")" -gt "$1" ]
}

show_statistics() {
	local lines
	heading 'Statistics (signal USR1)'
	lines=$(wc -l <"$work/pen-dsr.log")
	kill -USR1 "$pen_dsr"
	check 'pen-dsr writes them to its log' wait_until 5 log_is_longer_than "$lines"
	sleep 0.2
	tail -n "+$((lines + 1))" "$work/pen-dsr.log" | sed 's/^/  | /'
}

ended() {
	! kill -0 "$pen_dsr" 2>/dev/null
}

end_balancer() {
	local lines status=0
	heading 'End (signal TERM)'
	lines=$(wc -l <"$work/pen-dsr.log")
	kill -TERM "$pen_dsr" || true
	check 'pen-dsr ends by itself' wait_until 5 ended
	kill -KILL "$pen_dsr" 2>/dev/null || true
	wait "$pen_dsr" || status=$?
	tail -n "+$((lines + 1))" "$work/pen-dsr.log" | sed 's/^/  | /'
	check "its exit code is 0 (it is $status)" [ "$status" = 0 ]
	balancer_settings >"$work/after"
	check 'the interface, its offloads and filters are as they were before' diff "$work/before" "$work/after"
	check 'the VIP no longer answers' vip_is_gone
}

vip_is_gone() {
	! on client curl --silent --noproxy '*' --max-time 1 "http://$VIP4/" >/dev/null 2>&1
}

start_network
start_balancer
for vip in "$VIP4" "$VIP6"; do
	who_answers "$vip"
	logs_tell_clients "$vip"
done
check 'all three backends got clients' shares_are_spread
explain_in_full
replies_bypass_balancer "$VIP4" 10.0.0.1
replies_bypass_balancer "$VIP6" fd00::1
change_meanwhile 10.0.0.1
show_statistics
end_balancer
proxy_demo

heading 'Result'
echo "  $checks_held claims held, $checks_failed did not."
[ "$checks_failed" = 0 ]
