# Completion of loopnbd for fish. Commands, flags and their values come from `--help` of the
# installed program, so that they are its own; everything else is a file.

function __loopnbd_help
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    set -l command
    set -l help ($words[1] --help 2>/dev/null)
    for word in $words[2..-1]
        string match --quiet --regex -- '^[a-z]' $word; or continue
        if printf '%s\n' $help | sed '1,/^Subcommands:/d' | grep -q "^  $word  "
            set --append command $word
            set help ($words[1] $command --help 2>/dev/null)
        end
    end
    printf '%s\n' $help
end

function __loopnbd_words
    set -l previous (commandline --tokenize --current-process --cut-at-cursor)[-1]
    set -l help (__loopnbd_help)
    # --flag TEXT:{value,value}
    set -l values (printf '%s\n' $help |
        sed -n "s/^  \(-.,\)\?$previous [^ ]*:{\([^}]*\)}.*/\2/p" | string split ,)
    if test -n "$values"
        printf '%s\n' $values
    else if string match --quiet -- '-*' (commandline --current-token)
        printf '%s\n' $help | sed -n 's/^  \(-.,\)\?\(--[a-z0-9-]*\).*/\2/p'
    else
        printf '%s\n' $help | sed -n '/^Subcommands:/,$s/^  \([a-z][a-z0-9-]*\)  *\(.*\)/\1\t\2/p'
    end
end

complete --command loopnbd --arguments '(__loopnbd_words)'
