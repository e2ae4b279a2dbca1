# The shell of a session (bash). Reads requests from descriptor 3, writes messages to descriptor 4
# (worker/guest/kernel_msg.h). Each command runs in a subshell, so that `exit`, `exec` and `set -e`
# end the command and not the session; its working directory, exported variables, functions and
# aliases are handed back through a file when it ends.
#
# Names beginning with __w belong to this program.

exec 6>&1 7>&2
__w_state=${WARREN_STATE:-/tmp}/shell.$$
unset WARREN_STATE OLDPWD
shopt -s expand_aliases
trap : INT
compgen -e >"$__w_state"
mapfile -t __w_had <"$__w_state"
__w_functions=()

__w_save() {
    local code=$?
    {
        printf 'cd -- %q 2>/dev/null\n' "$PWD"
        unset -f __w_save __w_run
        printf '__w_have=(\n' && compgen -e
        printf ')\n__w_functions=(\n' && compgen -A function
        printf ')\n' && declare -f
        alias -p
        export -p
    } >"$__w_state" 2>/dev/null
    exit "$code"
}

__w_run() {
    local hidden=$1
    (
        exec 3<&- 4>&- 6>&- 7>&-
        RANDOM=$SRANDOM
        if [[ $hidden != hidden ]]; then trap __w_save EXIT; fi
        unset hidden
        eval "$__w_code"
    )
}

printf 'ready 0\n' >&4
while IFS=' ' read -r -u 3 __w_verb __w_size __w_arg; do
    case $__w_verb in
    exec)
        exec 1>&6 2>&7
        IFS= LC_ALL=C read -r -N "$__w_size" -u 3 __w_code
        : >"$__w_state"
        __w_run "${__w_arg%.*}"
        __w_exit=$?
        # Not in a function: what is declared there would be local to it.
        if [[ -s $__w_state ]]; then
            for __w_name in "${__w_functions[@]}"; do unset -f "$__w_name"; done
            . "$__w_state" 2>/dev/null
            for __w_name in "${__w_had[@]}"; do
                if [[ " ${__w_have[*]} " != *" $__w_name "* ]]; then unset -v "$__w_name"; fi
            done
            __w_had=("${__w_have[@]}")
        fi
        if ((__w_exit == 0)); then __w_word=ok; else __w_word=error; fi
        printf 'done 0 %s %d %s\n' "$__w_word" "$__w_exit" "${__w_arg#*.}" >&4
        ;;
    seed)
        IFS= LC_ALL=C read -r -N "$__w_size" -u 3 __w_code
        RANDOM=$((16#${__w_code:0:7}))
        printf 'seeded 0\n' >&4
        ;;
    esac
done
