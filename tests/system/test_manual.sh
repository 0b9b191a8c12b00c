#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test_manual.sh SOURCE BUILD: every command of `kvern help` and every option of `kvern COMMAND --help`
# (and of its subcommands) stands in docs/kvern.1, in its command's section.
set -eu
MANUAL=$1/docs/kvern.1
KVERN=$2/kvern
status=0

commands=$("$KVERN" help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(echo "$commands" | wc -w)" -ge 9 ] || { echo "test_manual: no commands in 'kvern help'" >&2; exit 1; }
for command in $commands; do
    section=$(awk -v command="$command" '/^\.Ss /{ inside = $2 == command } inside' "$MANUAL")
    if [ -z "$section" ]; then
        echo "test_manual: docs/kvern.1 has no section '.Ss $command'" >&2
        status=1
        continue
    fi
    # the options that several commands share stand in a section of their own
    section="$section
$(awk '/^\.Ss /{ inside = $0 ~ /Options of the engine/ } inside' "$MANUAL")"
    helps=$("$KVERN" "$command" --help)
    for subcommand in $(echo "$helps" | sed -n '/^Subcommands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
        helps="$helps
$("$KVERN" "$command" "$subcommand" --help)"
        if ! printf '%s\n' "$section" | grep -qE "^\.It Cm $subcommand( |\$)"; then
            echo "test_manual: docs/kvern.1 lacks 'kvern $command $subcommand'" >&2
            status=1
        fi
    done
    options=$(echo "$helps" | grep -oE '^  (-[a-z], |    )--[a-z-]+' | grep -oE -e '--[a-z-]+')
    for option in $options; do
        if ! printf '%s\n' "$section" | grep -qE "^\.It (Fl [a-z] Ns , )?Fl -${option#--}( |\$)"; then
            echo "test_manual: docs/kvern.1 lacks $option of 'kvern $command'" >&2
            status=1
        fi
    done
done
exit $status
