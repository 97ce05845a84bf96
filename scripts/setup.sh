# Sourced by scripts/demo, scripts/test and .ci/run, from the top of the checkout: everything that has to be
# there before `backline` runs. Safe to run again; does only what is missing.

VENV=.venv
PY="$VENV/bin/python"

say() { printf '%s\n' "backline: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# Debian packages, where this may install them; otherwise the one line that does. Status 1 if not installed.
system_packages() {
    as_root=""
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            as_root="sudo -n"
        else
            say "to get $*, run:  sudo apt-get install -y $*"
            return 1
        fi
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        say "this is no Debian or Ubuntu; install what they call: $*"
        return 1
    fi
    say "installing $*"
    log=$(mktemp)
    if { $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y "$@"; } \
        </dev/null >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    tail -n 5 "$log" >&2
    rm -f "$log"
    say "could not install $*; by hand:  sudo apt-get install -y $*"
    return 1
}

# Sets PYTHON to an interpreter of 3.10 or later.
find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            PYTHON=$candidate
            return 0
        fi
    done
    die "needs Python 3.10 or later; found none (say which with PYTHON=/path/to/python)"
}

check_build_tools() {
    if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian's Python comes without these; the package is named after the version.
        system_packages "$("$PYTHON" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" ||
            die "virtual environments need that package"
    fi
    if ! command -v "${CC:-cc}" >/dev/null 2>&1; then
        system_packages build-essential || die "the engine is C and needs a compiler"
    fi
    if ! "$PYTHON" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'; then
        system_packages python3-dev || die "building the engine needs Python's headers"
    fi
}

make_venv() {
    # One that was made elsewhere, or by a Python that has gone, is made anew.
    if ! "$PY" -c 'import os, sys
sys.exit(os.path.realpath(sys.prefix) != os.path.realpath(sys.argv[1]) or sys.version_info < (3, 10))' \
        "$VENV" 2>/dev/null; then
        say "making the virtual environment $VENV"
        rm -rf "$VENV"
        "$PYTHON" -m venv "$VENV" || die "could not make a virtual environment"
    fi
    "$PY" -c 'import pip; import sys; sys.exit(int(pip.__version__.split(".")[0]) < 23)' ||
        "$PY" -m pip install --quiet --upgrade pip
}

# Installs the checkout with the extras given ("" or "[test]"), unless that was done and nothing changed since.
install_backline() {
    state=$(find pyproject.toml setup.py native -type f ! -path '*/__pycache__/*' | LC_ALL=C sort |
        tr '\n' '\0' | xargs -0 cat | cksum)
    # Every set of extras that was installed left its stamp; without extras any of them will do.
    stamp="$VENV/backline-installed$1"
    [ -n "$1" ] || stamp="$VENV/backline-installed*"
    # shellcheck disable=SC2086  # a pattern
    if ! cat $stamp 2>/dev/null | grep -qxF "$state" || ! "$PY" -c 'import backline' 2>/dev/null; then
        say "building and installing backline$1"
        "$PY" -m pip install --quiet --editable ".$1"
        printf '%s\n' "$state" >"$VENV/backline-installed$1"
    fi
}

# Live audio needs PortAudio's library; rendering files does not, so going without is no failure.
install_portaudio() {
    "$PY" -c 'import sounddevice' 2>/dev/null && return 0
    system_packages libportaudio2 || say "going on without live audio"
}

setup() {
    find_python
    check_build_tools
    make_venv
    install_backline "$1"
    install_portaudio
}
