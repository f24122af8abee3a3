#!/bin/sh
# Makes .venv with everything the demo and the tests need. Run by `make setup`; safe to run again.
# Another environment: setup.sh FOLDER EXTRAS [REQUIREMENT ...]
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv}
extras=${2:-lerobot,robosuite,hdf5,audit,lora,dev}
[ $# -lt 2 ] || shift 2

fits() { # a Python >= 3.12 that can make virtual environments (Debian's may lack ensurepip)
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

find_python() {
    for python in python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python3 python3.13 python3; do
        if fits "$python"; then
            echo "$python"
            return
        fi
    done
}

make_venv() {
    python=$(find_python)
    if [ -n "$python" ]; then
        echo "setup: making $venv with $("$python" --version) ($python)"
        "$python" -m venv "$venv"
        return
    fi
    if command -v uv >/dev/null 2>&1; then
        uv=uv
    elif python3 -m pip --version >/dev/null 2>&1; then
        echo "setup: no Python >= 3.12; getting one with uv"
        # --target, because Debian's own Python refuses other installs (PEP 668)
        python3 -m pip install --quiet --no-input --target build/uv uv
        uv=build/uv/bin/uv
    else
        echo "setup: no Python >= 3.12, no uv and no pip. Install one of them, for example uv:" >&2
        echo "    curl -LsSf https://astral.sh/uv/install.sh | sh" >&2
        exit 1
    fi
    "$uv" venv --seed --python "$(cat .python-version)" "$venv"
}

check_gl() {
    case "${MUJOCO_GL:-osmesa}" in
        osmesa) library=libOSMesa.so.8 packages="libosmesa6" ;;
        egl) library=libEGL.so.1 packages="libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libglvnd0" ;;
        *) return ;;
    esac
    loads() { "$venv/bin/python" -c "import ctypes; ctypes.CDLL('$library')" >/dev/null 2>&1; }
    if loads; then return; fi
    install="apt-get update && apt-get install -y --no-install-recommends $packages"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "setup: $library is missing, running: $install"
        DEBIAN_FRONTEND=noninteractive sh -c "$install"
        if loads; then return; fi
    fi
    echo "setup: MuJoCo cannot render here: $library is missing. Install it:" >&2
    echo "    sudo sh -c '$install'" >&2
    exit 1
}

if [ -e "$venv" ] && ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
    echo "setup: $venv holds no working Python >= 3.12; remove it: rm -r $venv" >&2
    exit 1
fi
[ -x "$venv/bin/python" ] || make_venv

# An editable install knows its folder, so a moved checkout installs again.
stamp=$(cat pyproject.toml scripts/setup.sh | cksum)" $PWD"
if [ "$(cat "$venv/setup-stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "setup: installing into $venv (a few minutes and 5 GB the first time)"
    # pip, not uv: pip honours PIP_* variables and pip.conf, where a site names its own index
    "$venv/bin/python" -m pip install --no-input --quiet --disable-pip-version-check \
        --editable ".[$extras]" "$@"
    echo "$stamp" >"$venv/setup-stamp"
fi
check_gl
