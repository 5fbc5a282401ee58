# shellcheck shell=bash
# Output of scripts/lib/demo-network.sh: headings, tables and checks that are counted. To be sourced.

checks_held=0
checks_failed=0

if [ -t 1 ]; then BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' RED='' PLAIN=''; fi

heading() {
	printf '\n%s== %s%s\n' "$BOLD" "$1" "$PLAIN"
}

# check CLAIM COMMAND...: the claim holds when the command succeeds.
check() {
	local claim=$1
	shift
	if "$@"; then
		checks_held=$((checks_held + 1))
		printf '  ok    %s\n' "$claim"
	else
		checks_failed=$((checks_failed + 1))
		printf '  %sFAIL%s  %s\n' "$RED" "$PLAIN" "$claim"
	fi
}

# wait_until SECONDS COMMAND...: asks ten times a second; fails when the time is over.
wait_until() {
	local left=$(($1 * 10))
	shift
	until "$@"; do
		left=$((left - 1))
		if [ "$left" -le 0 ]; then return 1; fi
		sleep 0.1
	done
}
