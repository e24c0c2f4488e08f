# Sourced after claude.sh: `official_clients` installs the official OpenAI clients below
# target/clients and says by SYNTHESIS_TEST_PYTHON and SYNTHESIS_TEST_NODE_PATH where they are.
OPENAI_PYTHON_VERSION=3.52.0
OPENAI_NODE_VERSION=7.55.0

# Both are tried even when the first fails.
official_clients() {
    clients_missing=0
    python_client || clients_missing=1
    node_client || clients_missing=1
    return "$clients_missing"
}

need_python_venv() {
    python3 -c 'import ensurepip, venv' 2>/dev/null && return 0
    if [ "$(id -u)" = 0 ]; then
        echo "installing python3-venv from the distribution's packages" >&2
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "python's venv is needed to install the OpenAI client: apt-get install python3-venv" >&2
        return 1
    fi
}

python_client() {
    clients_venv="$PWD/target/clients/python"
    if ! is_python_client "$clients_venv/bin/python"; then
        need_python_venv || return 1
        echo "installing openai==$OPENAI_PYTHON_VERSION below target/clients" >&2
        python3 -m venv --clear "$clients_venv" || return 1
        "$clients_venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
            "openai==$OPENAI_PYTHON_VERSION" >&2 || return 1
        is_python_client "$clients_venv/bin/python" || return 1
    fi
    export SYNTHESIS_TEST_PYTHON="$clients_venv/bin/python"
}

is_python_client() {
    [ -x "$1" ] && [ "$("$1" -c \
        'import importlib.metadata as m; print(m.version("openai"))' 2>/dev/null)" \
        = "$OPENAI_PYTHON_VERSION" ]
}

node_client() {
    clients_modules="$PWD/target/clients/node/node_modules"
    if ! is_node_client "$clients_modules"; then
        need_npm || return 1
        echo "installing openai@$OPENAI_NODE_VERSION below target/clients" >&2
        npm install --silent --no-audit --no-fund --prefix target/clients/node \
            "openai@$OPENAI_NODE_VERSION" >&2 || return 1
        is_node_client "$clients_modules" || return 1
    fi
    export SYNTHESIS_TEST_NODE_PATH="$clients_modules"
}

is_node_client() {
    [ "$(node -p 'require(process.argv[1]).version' "$1/openai/package.json" 2>/dev/null)" \
        = "$OPENAI_NODE_VERSION" ]
}
