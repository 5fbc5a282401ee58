# shellcheck shell=bash
# The proxy's part of the demo, on the network of scripts/lib/demo-network.sh, which sources this: it needs the backends'
# nginx, $program and $work.

: "${program:?}" "${work:?}"

PROXY=10.0.0.2          # the balancer's own address
FAR=192.168.50.2        # a client behind the balancer's machine, for transparent mode
FAR_GATEWAY=192.168.50.1
FAILOVER_REQUESTS=20

# start_proxy WORD...: pen-dsr with these words, on the balancer's machine. Sets $proxy.
start_proxy() {
	echo "+ pen-dsr $*"
	: >"$work/proxy.log"
	scripts/lab exec lb "$program" "$@" -C "$work/proxy.control" </dev/null >"$work/proxy.log" 2>&1 &
	proxy=$!
	if ! wait_until 5 grep -q 'commands are taken' "$work/proxy.log"; then
		sed 's/^/  | /' "$work/proxy.log"
		check 'the proxy starts' false
	fi
}

proxy_ended() {
	! kill -0 "$proxy" 2>/dev/null
}

end_proxy() {
	kill -TERM "$proxy" 2>/dev/null || true
	wait_until 5 proxy_ended || kill -KILL "$proxy" 2>/dev/null || true
	wait "$proxy" 2>/dev/null || true
}

# ask WORD...: by curl, from the client.
ask() {
	on client curl --silent --show-error --fail --noproxy '*' --max-time 5 "$@" 2>>"$work/curl.log"
}

# in_turn NAME NAME...: the lines of standard input are these names, as often each as the other, none twice in a row.
in_turn() {
	awk -v names="$*" '
		BEGIN { wanted = split(names, name) }
		$0 == before { exit bad = 1 }
		{ before = $0; count[$0]++; lines++ }
		END {
			for (i = 1; i <= wanted; i++) if (count[name[i]] != lines / wanted) bad = 1
			exit bad || lines == 0
		}'
}

proxy_takes_turns() {
	local answers request
	heading 'The proxy: connections by turns'
	start_proxy -r "$PROXY:8080" 10.0.0.11:80 10.0.0.12:80
	for ((request = 0; request < 6; request++)); do ask "http://$PROXY:8080/"; done >"$work/answers" || true
	answers=$(tr '\n' ' ' <"$work/answers")
	echo "  answers from: $answers"
	check 'two servers answer by turns, at another port than the clients use' in_turn be1 be2 <"$work/answers"
}

# backend_gone NAME
backend_gone() {
	! on lb curl --silent --noproxy '*' --max-time 1 "http://10.0.0.1${1#be}/" >/dev/null 2>&1
}

# While the proxy of proxy_takes_turns runs.
proxy_passes_over() {
	local request failed=0
	heading 'A server is killed'
	echo '+ kill -KILL nginx   (be2)'
	kill -KILL "$(cat "$work/be2/nginx.pid")"
	check 'be2 does not answer any more' wait_until 5 backend_gone be2
	for ((request = 0; request < FAILOVER_REQUESTS; request++)); do
		ask "http://$PROXY:8080/" || failed=$((failed + 1))
	done >"$work/answers"
	echo "  answers from: $(sort "$work/answers" | uniq -c | awk '{ printf "%s (%s times)  ", $2, $1 }')"
	grep 'WARN' "$work/proxy.log" | sed 's/^/  | /' || true
	check "of $FAILOVER_REQUESTS requests none failed (failed: $failed)" [ "$failed" = 0 ]
	check 'all were answered by be1' [ "$(sort -u "$work/answers")" = be1 ]
	end_proxy
	start_backend be2
	check 'be2 answers again' wait_until 10 backend_answers be2
}

proxy_adds_headers() {
	local expected='10.0.0.1'
	heading 'HTTP: who the client is'
	start_proxy -r -H "$PROXY:8080" 10.0.0.11:80 10.0.0.12:80
	echo "+ curl -H 'X-Forwarded-For: 6.6.6.6' ...   (three requests of one connection)"
	ask -H 'X-Forwarded-For: 6.6.6.6' --interface 10.0.0.1 "http://$PROXY:8080/forwarded" \
		"http://$PROXY:8080/forwarded" "http://$PROXY:8080/forwarded" >"$work/answers" || true
	sed 's/^/  X-Forwarded-For at the server: /' "$work/answers"
	check 'three requests were answered' [ "$(wc -l <"$work/answers")" = 3 ]
	check "each had the client's address, and not the forged one" [ "$(sort -u "$work/answers")" = "$expected" ]
	check 'a request that could be understood in two ways is refused (400)' [ "$(smuggled)" = 400 ]
	end_proxy
}

# smuggled: the status of a request with two lengths.
smuggled() {
	ask --output /dev/null --write-out '%{http_code}' --no-fail --http1.1 -H 'Content-Length: 4' \
		-H 'Transfer-Encoding: chunked' --data-binary 0 "http://$PROXY:8080/" || true
}

proxy_ends_tls() {
	heading 'TLS ends here, and HTTP/2 with it'
	if ! command -v openssl >/dev/null; then
		echo '  SKIPPED: openssl is missing, which makes the certificate'
		return
	fi
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=demo.example -days 2 \
		-keyout "$work/site.key" -out "$work/site.pem" 2>/dev/null
	start_proxy -r -H -E "$work/site.pem" -K "$work/site.key" "$PROXY:8443" 10.0.0.11:80 10.0.0.12:80
	ask -k --http2 --write-out 'HTTP/%{http_version}\n' "https://$PROXY:8443/" >"$work/answers" || true
	ask -k --http1.1 --write-out 'HTTP/%{http_version}\n' "https://$PROXY:8443/" >>"$work/answers" || true
	sed 's/^/  /' "$work/answers"
	check 'a client with HTTP/2 is served in HTTP/2' grep -qx 'HTTP/2' "$work/answers"
	check 'one with HTTP/1.1 in that' grep -qx 'HTTP/1.1' "$work/answers"
	end_proxy
}

proxy_carries_datagrams() {
	local request name
	local servers=()
	heading 'UDP'
	if ! command -v socat >/dev/null; then
		echo '  SKIPPED: socat is missing, which is server and client here'
		return
	fi
	for name in be1 be2; do
		scripts/lab exec "$name" socat UDP-RECVFROM:5300,fork SYSTEM:"read line; echo $name" </dev/null >"$work/$name/socat.log" 2>&1 &
		servers+=($!)
	done
	start_proxy -r -U "$PROXY:53" 10.0.0.11:5300 10.0.0.12:5300
	wait_until 5 datagram_answered || true
	for ((request = 0; request < 4; request++)); do datagram; done >"$work/answers" || true
	echo "  answers from: $(tr '\n' ' ' <"$work/answers")"
	check 'clients with datagrams are served by turns, too' in_turn be1 be2 <"$work/answers"
	end_proxy
	kill "${servers[@]}" 2>/dev/null || true
	wait "${servers[@]}" 2>/dev/null || true
}

# datagram: one question from a port of its own, and its answer.
datagram() {
	echo | on client timeout 2 socat -t 1 -T 1 - "UDP:$PROXY:53" 2>>"$work/curl.log"
}

datagram_answered() {
	[ -n "$(datagram)" ]
}

# A client behind the balancer's machine, which is the servers' gateway to it.
lay_far_cable() {
	local name
	ip netns add far
	echo "link add eth1 netns lb type veth peer name eth0 netns far" | ip -batch -
	on lb ip -batch - <<-END
		address add $FAR_GATEWAY/24 dev eth1
		link set eth1 up
	END
	on far ip -batch - <<-END
		address add $FAR/24 dev eth0
		link set lo up
		link set eth0 up
		route add default via $FAR_GATEWAY
	END
	for name in be1 be2; do on "$name" ip route add 192.168.50.0/24 via "$PROXY"; done
}

# seen_by_server: the client's address, as the server sees it.
seen_by_server() {
	on far curl --silent --fail --noproxy '*' --max-time 5 "http://$FAR_GATEWAY/who" 2>>"$work/curl.log"
}

proxy_is_transparent() {
	heading "Transparent: servers see the client's own address"
	if ! command -v nft >/dev/null; then
		echo '  SKIPPED: nft is missing, by which scripts/transparent sets up the way back'
		return
	fi
	lay_far_cable
	start_proxy "$FAR_GATEWAY:80" 10.0.0.11:80 10.0.0.12:80
	echo "  not transparent: $FAR is $(seen_by_server || echo nobody) for the server"
	check "without it the server sees the proxy's address" [ "$(seen_by_server)" = "$PROXY" ]
	end_proxy
	echo '+ scripts/transparent up'
	on lb scripts/transparent up
	start_proxy --transparent "$FAR_GATEWAY:80" 10.0.0.11:80 10.0.0.12:80
	echo "  transparent: $FAR is $(seen_by_server || echo nobody) for the server"
	check "with it the client's" [ "$(seen_by_server)" = "$FAR" ]
	check 'the program misses nothing of the way back' [ "$(grep -c WARN "$work/proxy.log")" = 0 ]
	end_proxy
	on lb scripts/transparent down
	check 'scripts/transparent down takes everything back' way_back_is_gone
}

way_back_is_gone() {
	! { on lb nft list tables && on lb ip rule show; } | grep -q 'pen_dsr_transparent\|fwmark'
}

proxy_refuses() {
	! on client curl --silent --noproxy '*' --max-time 1 "http://$PROXY:8080/" >/dev/null 2>&1
}

proxy_drains() {
	local download status=0
	heading 'The end (signal TERM) during a download'
	start_proxy -r "$PROXY:8080" 10.0.0.11:80 10.0.0.12:80
	on client curl --silent --fail --noproxy '*' --max-time 30 --range 0-2999999 "http://$PROXY:8080/slow-download" \
		>"$work/part" 2>>"$work/curl.log" &
	download=$!
	wait_until 5 [ -s "$work/part" ] || true
	echo '+ kill -TERM pen-dsr'
	kill -TERM "$proxy"
	check 'new connections are refused' wait_until 5 proxy_refuses
	check 'the download goes on' kill -0 "$download"
	check 'it ends well' wait "$download"
	check 'what came is what was asked for' cmp -s <(head -c 3000000 "$work/download") "$work/part"
	check 'then the proxy ends by itself' wait_until 5 proxy_ended
	wait "$proxy" || status=$?
	check "its exit code is 0 (it is $status)" [ "$status" = 0 ]
	sed 's/^/  | /' "$work/proxy.log"
}

proxy_demo() {
	proxy_takes_turns
	proxy_passes_over
	proxy_adds_headers
	proxy_ends_tls
	proxy_carries_datagrams
	proxy_is_transparent
	proxy_drains
}
