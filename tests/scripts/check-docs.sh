#!/bin/sh
# Do the docs name what the code has? Looks at text only, builds nothing.
# What it cannot find in the code fails too: then this script must follow the code.
set -euf
cd "$(dirname "$0")/../.."
export LC_ALL=C

protocol=docs/protocol.md
configuration=docs/configuration.md
shipped=systemd/spawnd.toml
failures=0

fail() {
    echo "check-docs: $*" >&2
    failures=$((failures + 1))
}

# has FILE TEXT: does the file hold this text?
has() {
    grep -qF -e "$2" "$1"
}

# without_tests FILE…: their lines up to the `#[cfg(test)]` block at the end.
without_tests() {
    awk 'FNR == 1 { held = ""; tests = 0 }
        tests { next }
        held != "" { if (/^(pub(\([a-z]+\))? )?mod [a-z_]+ \{/) { tests = 1; held = ""; next } print held; held = "" }
        /^#\[cfg\(test\)\]/ { held = $0; next }
        { print }' "$@"
}

# strings PATTERN FILE…: string literals of the code, without the quotes.
strings() {
    pattern=$1
    shift
    without_tests "$@" | sed -e 's,^ *//.*,,' -e '/^ *#\[/d' | grep -oE "\"$pattern\"" | tr -d '"' | sort -u
}

for file in "$protocol" "$configuration" "$shipped" spawnd/src/config.rs frontd/src/http/router.rs frontd/src/http/error.rs frontd/src/config.rs Makefile
do
    [ -f "$file" ] || { echo "check-docs: $file is missing" >&2; exit 1; }
done

# ---- routes ---------------------------------------------------------------------------------------

routes=$(awk '/^static TABLE/ { inside = 1 } inside && /^\];/ { exit }
    inside && /Method::/ { split($0, quoted, "\""); sub(/.*Method::/, ""); sub(/[^A-Z].*/, ""); print $0, quoted[2] }' \
    frontd/src/http/router.rs | tr ' ' '~')
[ -n "$routes" ] || fail "no route found in TABLE of frontd/src/http/router.rs"
for route in $routes; do
    route=$(echo "$route" | tr '~' ' ')
    has "$protocol" "\`$(echo "$route" | tr -d "*")\`" || fail "route \`$route\` is not in $protocol"
done

# ---- error codes ----------------------------------------------------------------------------------

# Codes are lower-case words joined by underscores, or one word in the map of failures. What else
# looks like one (a request's field, a header) belongs into the docs as well.
codes=$(
    strings '[a-z]+(_[a-z]+)+' frontd/src/http/error.rs frontd/src/http/guard.rs frontd/src/http/router.rs \
        $(find frontd/src/http frontd/src/ask -name '*.rs' ! -name tests.rs) \
        frontd/src/run/failure.rs frontd/src/identity.rs frontd/src/session/diagnosis.rs
    without_tests frontd/src/http/error.rs | grep -oE 'StatusCode::[A-Z_]+, "[a-z]+"' | sed 's/.*"\(.*\)"/\1/'
)
[ "$(echo "$codes" | wc -l)" -gt 20 ] || fail "hardly any error code found in frontd/src"
for code in $codes; do
    has "$protocol" "\`$code\`" || fail "error code \`$code\` is not in $protocol"
done

# ---- configuration --------------------------------------------------------------------------------

# A field of a struct that is read from the file: `listen`, `[limits]`, `limits.processes`.
keys=$(awk '/^#\[derive\(.*Deserialize/ { derived = 1; next }
    derived && /^#\[/ { next }
    derived && /^pub struct [A-Za-z]+ \{/ { section = tolower($3); if (section == "config") section = ""
        else if (section == "model") section = "models."
        else section = section "."
        inside = 1; derived = 0; next }
    { derived = 0 }
    /^}/ { inside = 0 }
    inside && /^    pub [a-z_]+:/ { sub(/:/, "", $2); print section $2 }' frontd/src/config.rs)
[ "$(echo "$keys" | wc -l)" -gt 10 ] || fail "hardly any key found in frontd/src/config.rs"
for key in $keys; do
    has "$configuration" "\`$key\`" || has "$configuration" "\`[$key]\`" || has "$configuration" "\`[[$key]]\`" ||
        fail "configuration key \`$key\` is not in $configuration"
done

# spawnd.toml: fields of what is read from it, in the docs and, commented or not, in the shipped file.
keys=$(awk '/^#\[derive\(.*Deserialize/ { derived = 1; next }
    derived && /^#\[/ { next }
    derived && /^pub struct [A-Za-z]+ \{/ { section = tolower($3)
        if (section == "config") section = ""; else if (section == "rule") section = "users.allow."
        else if (section == "account") section = "users.allow.account."; else section = section "."
        inside = 1; derived = 0; next }
    { derived = 0 }
    /^}/ { inside = 0 }
    inside && /^    pub [a-z_]+:/ { sub(/:/, "", $2); print section $2 }' spawnd/src/config.rs)
[ "$(echo "$keys" | wc -l)" -gt 40 ] || fail "hardly any key found in spawnd/src/config.rs"
for key in $keys; do
    has "$configuration" "\`$key\`" || has "$configuration" "\`[$key]\`" || has "$configuration" "\`[[$key]]\`" ||
        fail "spawnd.toml's \`$key\` is not in $configuration"
    last=${key##*.}
    grep -qE "^#?\[*([a-z.]*\.)?$last( = |\])|^\[+$last\.|^# account = .*[ {]$last = |^# $last = " "$shipped" ||
        fail "\`$key\` is not in $shipped"
done

fields=$({
    grep -rhoE 'SYNTHESIS_[A-Z][A-Z_]*[A-Z]' --include='*.rs' spawnd/src/audit
    grep -rhoE 'with\("SYNTHESIS_[A-Z_]+' --include='*.rs' spawnd/src | sed 's/.*"//'
    grep -hoE '"SYNTHESIS_[A-Z_]+"' frontd/src/audit/entry.rs frontd/src/http/visit.rs frontd/src/session/actor/books.rs frontd/src/serve.rs | tr -d '"'
} | sort -u)
[ -n "$fields" ] || fail "no field of the audit record found in the sources"
ids=$(grep -hoE '"[0-9a-f]{32}"' spawnd/src/audit/entry.rs frontd/src/audit/entry.rs | tr -d '"')
for field in $fields $ids; do
    has docs/audit.md "\`$field\`" || fail "audit field or id \`$field\` is not in docs/audit.md"
done

variables=$(grep -rhoE 'SYNTHESIS_[A-Z][A-Z_]*[A-Z]' --include='*.rs' frontd/src spawnd/src channel/src |
    sort -u | grep -vxF "$fields")
[ -n "$variables" ] || fail "no SYNTHESIS_ variable found in the sources"
for variable in $variables; do
    has "$configuration" "\`$variable\`" || fail "variable \`$variable\` is not in $configuration"
done

# ---- man pages ------------------------------------------------------------------------------------

# What their command lines take: commands and long options.
for page in docs/man/frontd.8 docs/man/spawnd.8 docs/man/synthesis.toml.5; do
    [ -f "$page" ] || fail "$page is missing"
done
words=$({
    awk '/^pub enum Command/ { inside = 1 } /^}/ { inside = 0 }
        inside && /^    [A-Z][A-Za-z]*[ ,]/ { word = $1; sub(/,$/, "", word); gsub(/[A-Z]/, "-&", word); print tolower(substr(word, 2)) }' frontd/src/cli.rs
    awk '/^    #\[arg\(long/ { long = 1; next } /^        #\[arg\(long/ { long = 1; next }
        long && /^ +(pub )?[a-z_]+: / { sub(/^ +(pub )?/, ""); sub(/:.*/, ""); gsub(/_/, "-"); print "--" $0; long = 0 }' frontd/src/cli.rs frontd/src/remote/mod.rs
})
[ "$(echo "$words" | wc -l)" -gt 8 ] || fail "hardly any word found in frontd/src/cli.rs"
for word in $words; do
    sed 's/\\-/-/g' docs/man/frontd.8 | grep -qE -e "(^|[ \"])$word( |\"|\$)" || fail "\`$word\` is not in docs/man/frontd.8"
done
for word in $(strings '--[a-z-]+' spawnd/src/command_line.rs spawnd/src/token/command.rs); do
    sed 's/\\-/-/g' docs/man/spawnd.8 | grep -qE -e "(^|[ \"])$word( |\"|,|\$)" || fail "\`$word\` is not in docs/man/spawnd.8"
done
if command -v python3 > /dev/null; then
    python3 tests/scripts/man-toml.py --check || fail "docs/man/synthesis.toml.5 is not what tests/scripts/man-toml.py makes of $configuration"
else
    echo "check-docs: warning: no python3: synthesis.toml(5) is not compared with $configuration" >&2
fi
if command -v groff > /dev/null; then
    for page in frontd.8 spawnd.8 synthesis.toml.5; do
        said=$(groff -man -ww -z "docs/man/$page" 2>&1) || true
        [ -z "$said" ] || fail "docs/man/$page: $said"
    done
else
    echo "check-docs: warning: no groff: the man pages are not read" >&2
fi

# ---- make targets ---------------------------------------------------------------------------------

if [ -f README.md ]; then
    for target in $(sed -n 's/^\([a-z][a-z-]*\):.*/\1/p' Makefile); do
        grep -qE "(^|[^a-z])make $target([^a-z-]|\$)" README.md || fail "\`make $target\` is not in README.md"
    done
fi

# ---- links ----------------------------------------------------------------------------------------

links=$(awk '{ rest = $0
        while (match(rest, /\]\([^) ]+/)) { print FILENAME, substr(rest, RSTART + 2, RLENGTH - 2); rest = substr(rest, RSTART + RLENGTH) } }
    /^\[[^]]*\]: / { rest = $0; sub(/^\[[^]]*\]: */, "", rest); sub(/ .*/, "", rest); print FILENAME, rest }' \
    $(find . \( -name target -o -name .git -o -name node_modules \) -prune -o -name '*.md' -print | sort))
while read -r file link; do
    case $link in
    '' | '#'* | [a-z]*:*) continue ;;
    esac
    [ -e "$(dirname "$file")/${link%%#*}" ] || fail "dead link in ${file#./}: $link"
done <<END
$links
END

# ---- long files: a warning ------------------------------------------------------------------------

for file in $(find . \( -name target -o -name .git -o -name node_modules \) -prune -o -name '*.rs' -print | sort); do
    lines=$(without_tests "$file" | wc -l)
    [ "$lines" -le 400 ] || echo "check-docs: warning: ${file#./} has $lines lines without its tests" >&2
done

[ "$failures" -eq 0 ] || { echo "check-docs: $failures faults" >&2; exit 1; }
