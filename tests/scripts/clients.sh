# Sourced after claude.sh: `official_clients` installs the official OpenAI clients and the AI SDK
# below target/clients and says by SYNTHESIS_TEST_PYTHON and SYNTHESIS_TEST_NODE_PATH where they are;
# `schemathesis_tool` does the same for schemathesis.
OPENAI_PYTHON_VERSION=3.52.0
OPENAI_NODE_VERSION=7.55.0
# Each as a package of its own, `ai-VERSION`: the first and the latest of every major version that
# reads UI message streams, for they differ in what they refuse (tests/e2e/streams.rs has the list).
AI_SDK_VERSIONS="5.0.0 5.0.277 6.0.0 6.0.326 7.0.173"

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
        echo "python's venv is needed to install the test's tools: apt-get install python3-venv" >&2
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
    if ! are_node_clients "$clients_modules"; then
        need_npm || return 1
        clients_ai=
        for version in $AI_SDK_VERSIONS; do
            clients_ai="$clients_ai ai-$version@npm:ai@$version"
        done
        echo "installing openai@$OPENAI_NODE_VERSION and ai $AI_SDK_VERSIONS below target/clients" >&2
        # shellcheck disable=SC2086 # one argument for each version
        npm install --silent --no-audit --no-fund --prefix target/clients/node \
            "openai@$OPENAI_NODE_VERSION" $clients_ai >&2 || return 1
        are_node_clients "$clients_modules" || return 1
    fi
    export SYNTHESIS_TEST_NODE_PATH="$clients_modules"
}

are_node_clients() {
    is_node_package "$1/openai" "$OPENAI_NODE_VERSION" || return 1
    for version in $AI_SDK_VERSIONS; do
        is_node_package "$1/ai-$version" "$version" || return 1
    done
}

is_node_package() {
    [ "$(node -p 'require(process.argv[1]).version' "$1/package.json" 2>/dev/null)" = "$2" ]
}

# `schemathesis`, which sends what openapi.json allows and what it does not; sets
# SYNTHESIS_TEST_SCHEMATHESIS.
SCHEMATHESIS_VERSION=4.32.5

schemathesis_tool() {
    clients_schema="$PWD/target/clients/schemathesis"
    if ! is_schemathesis "$clients_schema/bin/python"; then
        need_python_venv || return 1
        echo "installing schemathesis==$SCHEMATHESIS_VERSION below target/clients" >&2
        python3 -m venv --clear "$clients_schema" || return 1
        "$clients_schema/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
            "schemathesis==$SCHEMATHESIS_VERSION" >&2 || return 1
        is_schemathesis "$clients_schema/bin/python" || return 1
    fi
    export SYNTHESIS_TEST_SCHEMATHESIS="$clients_schema/bin/schemathesis"
}

is_schemathesis() {
    [ -x "$1" ] && [ "$("$1" -c \
        'import importlib.metadata as m; print(m.version("schemathesis"))' 2>/dev/null)" \
        = "$SCHEMATHESIS_VERSION" ]
}
