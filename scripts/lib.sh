# Functions of the scripts beside it.

step() { printf '\n== %s\n' "$*"; }

# Runs a command as the superuser where that is possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else
        echo "this needs root or sudo: $*" >&2
        return 1
    fi
}

# need_packages COMMAND PACKAGE...: installs the packages when the command is not there.
need_packages() {
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    if ! command -v apt-get >/dev/null; then
        echo "$command is not installed: install what your system calls $*" >&2
        return 1
    fi
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# need_component BINARY COMPONENT: adds a component of the toolchain when it is not there.
need_component() {
    command -v "$1" >/dev/null && "$1" --version >/dev/null 2>&1 || rustup component add "$2"
}

# need_cargo_tool NAME VERSION: builds a cargo subcommand into target/tools when there is none.
need_cargo_tool() {
    export PATH="$PWD/target/tools/bin:$PATH"
    command -v "$1" >/dev/null && return
    # Without optimization it is built in half the time, and runs for seconds; nobody debugs it.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=target/tools cargo install -q --locked --debug --root target/tools "$1@$2"
}
