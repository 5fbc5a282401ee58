# A routed network in a sandbox (scripts/sandbox), whose hosts are namespaces of these names:
#   client  10.1.0.1, .2, .3     fd01::1, ::2, ::3
#   proxy   10.1.0.254, fd01::fe towards the client; 10.2.0.254, fd02::fe towards the servers; a router
#   s1, s2  10.2.0.11, .12       fd02::11, ::12; their gateway is proxy
set -eu
PATH="$PATH:/usr/sbin:/sbin"
for host in client proxy s1 s2; do
	ip netns add "$host"
	# /proc/sys/net is that of the process which opens it.
	nsenter --net="/run/netns/$host" sh -eu -c '
		cd /proc/sys/net
		# What is so already is left alone: whoever writes spins as long as another namespace is being changed.
		put() {
			[ "$(cat "$1")" = "$2" ] || echo "$2" >"$1"
		}
		put ipv4/conf/all/rp_filter 0
		put ipv4/conf/default/rp_filter 0
		put ipv6/conf/all/disable_ipv6 0
		put ipv6/conf/default/disable_ipv6 0
		put ipv6/conf/default/accept_dad 0
		put ipv6/conf/default/accept_ra 0
		if [ "$1" = proxy ]; then
			put ipv4/ip_forward 1
			put ipv6/conf/all/forwarding 1
		fi
		ip link set lo up
	' sh "$host"
done
ip link add eth0 netns client type veth peer name clients netns proxy
for host in s1 s2; do ip link add eth0 netns "$host" type veth peer name "$host" netns proxy; done
nsenter --net=/run/netns/client ip -batch - <<-END
	address add 10.1.0.1/24 dev eth0
	address add 10.1.0.2/24 dev eth0
	address add 10.1.0.3/24 dev eth0
	address add fd01::1/64 dev eth0 nodad
	address add fd01::2/64 dev eth0 nodad
	address add fd01::3/64 dev eth0 nodad
	link set eth0 up
	route add default via 10.1.0.254
	route add default via fd01::fe
END
nsenter --net=/run/netns/proxy ip -batch - <<-END
	link add servers type bridge stp_state 0 forward_delay 0 mcast_snooping 0
	link set s1 master servers up
	link set s2 master servers up
	address add 10.1.0.254/24 dev clients
	address add fd01::fe/64 dev clients nodad
	address add 10.2.0.254/24 dev servers
	address add fd02::fe/64 dev servers nodad
	link set clients up
	link set servers up
END
for number in 1 2; do
	nsenter --net="/run/netns/s$number" ip -batch - <<-END
		address add 10.2.0.1$number/24 dev eth0
		address add fd02::1$number/64 dev eth0 nodad
		link set eth0 up
		route add default via 10.2.0.254
		route add default via fd02::fe
	END
done
# Under load the kernel takes its time until a link carries something; without that, addresses are of no use yet.
for link in client/eth0 proxy/clients proxy/servers s1/eth0 s2/eth0; do
	tries=900
	until nsenter --net="/run/netns/${link%/*}" ip -brief link show dev "${link#*/}" | grep -q ' UP '; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || { echo "$link does not come up" >&2; exit 1; }
		sleep 0.05
	done
done
