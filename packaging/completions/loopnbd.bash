# Completion of loopnbd for bash. Commands, flags and their values come from `--help` of the
# installed program, so that they are its own; everything else is a file.

# The help of the command that stands on the line before the cursor.
_loopnbd_help() {
  local -a command=()
  local help word
  help=$("$1" --help 2>/dev/null)
  for word in "${@:2}"; do
    if grep -q "^  $word  " <<<"${help#*Subcommands:}" && [[ $help == *Subcommands:* ]]; then
      command+=("$word")
      help=$("$1" "${command[@]}" --help 2>/dev/null)
    fi
  done
  printf '%s\n' "$help"
}

_loopnbd() {
  local help words=
  help=$(_loopnbd_help "$1" "${COMP_WORDS[@]:1:COMP_CWORD-1}")
  if [[ $3 == --* ]]; then
    # --flag TEXT:{value,value}
    words=$(sed -n "s/^  \(-.,\)\?$3 [^ ]*:{\([^}]*\)}.*/\2/p" <<<"$help" | tr ',' ' ')
  fi
  if [[ -z $words && $2 == -* ]]; then
    words=$(sed -n 's/^  \(-.,\)\?\(--[a-z0-9-]*\).*/\2/p' <<<"$help")
  elif [[ -z $words ]]; then
    words=$(sed -n '/^Subcommands:/,$s/^  \([a-z][a-z0-9-]*\) .*/\1/p' <<<"$help")
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$2")
  [[ -n $words ]] || compopt -o default
}

complete -F _loopnbd loopnbd
