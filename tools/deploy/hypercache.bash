# bash completion for hypercache and hypercached
#
# What can be said comes from the programs themselves (`hypercache help --words`, `hypercached --help`), so it
# is never older than they are.  Names of stores come from the running daemon, for who may ask it.

_hypercache_stores()
{
	# The first word of each line but the head's; nothing if there is no daemon, or it does not answer at once.
	"$1" --timeout 200ms "${@:2}" store list 2>/dev/null | while read -r name _; do
		[ "$name" = store ] || printf '%s\n' "$name"
	done
}

_hypercache()
{
	local cur prev verb='' i word cmd=${COMP_WORDS[0]}
	local -a where=() at=()

	COMPREPLY=()
	cur=${COMP_WORDS[COMP_CWORD]}
	prev=${COMP_WORDS[COMP_CWORD - 1]}
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--socket | --admin)
			where+=("$word" "${COMP_WORDS[i + 1]}")
			((i++))
			;;
		--)
			return
			;;
		--*)
			# An option of any verb that takes something: that is no verb.
			[[ $'\n'$("$cmd" --help 2>/dev/null) == *$'\n'"  $word "[A-Z]* ]] && ((i++))
			;;
		*)
			[ -n "$verb" ] || verb=$word
			at+=("$word")
			;;
		esac
	done
	case $prev in
	--socket | --admin)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--store)
		mapfile -t COMPREPLY < <(compgen -W "$(_hypercache_stores "$cmd" "${where[@]}")" -- "$cur")
		return
		;;
	--ttl | --touch | --fresh | --absent)
		mapfile -t COMPREPLY < <(compgen -W 'never 10s 5m 1h 1d' -- "$cur")
		return
		;;
	--interval)
		mapfile -t COMPREPLY < <(compgen -W '200ms 500ms 1s 2s 5s 10s' -- "$cur")
		return
		;;
	--timeout | --lease | --flags | --stamp | --if-version | --if-newer | --initial | --limit | --cursor | --count)
		return
		;;
	esac
	local words
	words=$("$cmd" help --words ${verb:+"$verb"} 2>/dev/null)
	case "${#at[@]} ${at[*]}" in
	'2 store drop' | '2 store clear' | [2-9]' dump '* | [2-9]' restore '*)
		[[ $cur == -* ]] || words=$(_hypercache_stores "$cmd" "${where[@]}")
		;;
	'2 config check' | '2 config diff' | '1 upgrade' | '1 dump' | '1 restore' | '2 wal '*)
		if [[ $cur != -* ]]; then
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			return
		fi
		;;
	'1 help')
		[[ $cur == -* ]] || words=$("$cmd" help --words 2>/dev/null)
		;;
	esac
	# Without a verb: the verbs and what every verb has.
	[ -n "$verb" ] || words+=$'\n'$("$cmd" help ping --words 2>/dev/null)
	# Words only where they may stand: behind the verb at once; options wherever they are begun.
	words=$(while read -r word _; do
		[[ $word == --* && $cur != -* ]] && continue
		[[ $word != --* && ${#at[@]} -gt 1 && ! "${at[*]}" =~ ^(store\ (drop|clear)$|dump\ |restore\ ) ]] && continue
		printf '%s\n' "$word"
	done <<<"$words")
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

_hypercached()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd=${COMP_WORDS[0]}

	COMPREPLY=()
	if [[ $cur != -* ]]; then
		[[ $prev == --set ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
	fi
	mapfile -t COMPREPLY < <(compgen -W "$("$cmd" --help 2>&1 | grep -oE -- '--[a-z][a-z-]*' | sort -u)" -- "$cur")
}

complete -F _hypercache hypercache
complete -F _hypercached hypercached
