# shellcheck shell=sh
# Runs commands, or with dry=yes only prints them, one a line. To be sourced by sh.
#
#   run WORD...                 one command
#   run_line LINE               one line of shell
#   ask ANSWER WORD...          its output; ANSWER stands for it when dry
#   quoted WORD                 as it would be typed
#
# Needs $dry: yes or no. What `ask` prints when dry goes to file descriptor 3, as its standard output is caught:
# exec 3>&1.
# shellcheck disable=SC2154 # set by those who source this

# quoted WORD...
quoted() {
	q_line=''
	for q_word in "$@"; do
		case $q_word in
		'' | *[!A-Za-z0-9_./:=,@%+-]*)
			q_word="'$(printf '%s\n' "$q_word" | sed "s/'/'\\\\''/g")'"
			;;
		esac
		q_line="$q_line${q_line:+ }$q_word"
	done
	printf '%s\n' "$q_line"
}

run() {
	if [ "$dry" = yes ]; then
		quoted "$@"
		return 0
	fi
	printf '+ %s\n' "$(quoted "$@")"
	"$@"
}

# A newline within the line would make it two: callers write \n for printf instead.
run_line() {
	if [ "$dry" = yes ]; then
		printf '%s\n' "$1"
		return 0
	fi
	printf '+ %s\n' "$1"
	eval "$1"
}

ask() {
	a_answer=$1
	shift
	if [ "$dry" = yes ]; then
		quoted "$@" >&3
		printf '%s\n' "$a_answer"
		return 0
	fi
	"$@"
}
