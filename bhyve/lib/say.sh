# shellcheck shell=sh
# What the lab says: remarks, failures with their remedy, claims that are counted. To be sourced by sh.
# shellcheck disable=SC2154 # set by those who source this

# The exit codes, as sysexits(3) names them.
# shellcheck disable=SC2034 # read by those who source this
{
	EX_USAGE=64 EX_DATAERR=65 EX_NOINPUT=66 EX_UNAVAILABLE=69 EX_CANTCREAT=73 EX_TEMPFAIL=75 EX_NOPERM=77
}

claims_held=0
claims_failed=0

heading() {
	printf '\n# %s\n' "$1"
}

# fail CODE MESSAGE: what was asked, what happened, what to do.
fail() {
	printf 'lab: %s\n' "$2" >&2
	exit "$1"
}

# claim TEXT COMMAND...: holds when the command succeeds. Nothing is known of it when dry.
claim() {
	c_text=$1
	shift
	if [ "$dry" = yes ]; then
		printf '# claim: %s\n' "$c_text"
		"$@" || true
	elif "$@"; then
		claims_held=$((claims_held + 1))
		printf 'ok      %s\n' "$c_text"
	else
		claims_failed=$((claims_failed + 1))
		printf 'NOT ok  %s\n' "$c_text"
	fi
}

# same WHAT IT-IS IT-SHOULD-BE: says what is different.
same() {
	if [ "$dry" = yes ] || [ "$2" = "$3" ]; then return 0; fi
	printf '# %s is:\n%s\n# and should be:\n%s\n' "$1" "$2" "$3" | sed 's/^/        /'
	return 1
}

# wait_until SECONDS COMMAND...: asks once a second; fails when the time is over. Asks once when dry.
wait_until() {
	w_end=$(($(date +%s) + $1))
	shift
	until "$@"; do
		if [ "$dry" = yes ] || [ "$(date +%s)" -ge "$w_end" ]; then return 1; fi
		sleep 1
	done
}
