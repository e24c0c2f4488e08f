# Sourced: sets CLAUDE to the Claude Code CLI, installing the pinned version below target/ when
# none is found. The version that every fact in docs/ was measured with:
CLAUDE_VERSION=2.1.329

need_npm() {
    command -v npm >/dev/null 2>&1 && return 0
    if [ "$(id -u)" = 0 ]; then
        echo "installing npm from the distribution's packages" >&2
        apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
    else
        echo "npm is needed to install the Claude Code CLI: apt-get install npm" >&2
        return 1
    fi
}

# The pinned CLI, whatever else is installed: for tests and the demo.
pinned_claude() {
    CLAUDE="$PWD/target/claude/node_modules/.bin/claude"
    if ! "$CLAUDE" --version 2>/dev/null | grep -q "^$CLAUDE_VERSION "; then
        need_npm || return 1
        echo "installing @anthropic-ai/claude-code@$CLAUDE_VERSION below target/claude" >&2
        npm install --silent --no-audit --no-fund --prefix target/claude \
            "@anthropic-ai/claude-code@$CLAUDE_VERSION" >&2 || return 1
        "$CLAUDE" --version >&2 || return 1
    fi
}

# The user's own CLI if there is one.
any_claude() {
    if [ -n "${SYNTHESIS_CLAUDE:-}" ]; then
        CLAUDE=$SYNTHESIS_CLAUDE
    elif command -v claude >/dev/null 2>&1; then
        CLAUDE=$(command -v claude)
    else
        pinned_claude
    fi
}
