#!/bin/sh
# sh run.sh         set up, answer the example recordings, then train a student on the synthetic demo corpus
# sh run.sh FILE    the same; the student of the package answers a recording or a folder of yours too
# sh run.sh test    set up, then the test suite; further arguments go to pytest
# sh run.sh paper   set up, then every entry of hyperparameters.EXPERIMENTS whose corpus is present
# sh run.sh -h      this text
set -eu
started_in=$PWD
cd "$(dirname "$0")"

fail() { echo "run.sh: $1" >&2; exit 2; }

mode=${1:-demo} recording=
[ $# -gt 0 ] && shift
case $mode in
    -h|--help) sed -n 's/^# sh/sh/p' "${0##*/}"; exit ;;
    demo|paper) requirements=requirements.txt ;;
    test) requirements=requirements-test.txt ;;
    *)
        case $mode in /*) recording=$mode ;; *) recording=$started_in/$mode ;; esac
        [ -e "$recording" ] || fail "no file $mode; valid: nothing (the demo), a recording, test, paper."
        mode=demo requirements=requirements.txt ;;
esac

python_works() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if [ ! -x .venv/bin/python ] || ! python_works .venv/bin/python; then
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        python_works "$python" && break
        python=
    done
    if [ -n "$python" ]; then
        rm -rf .venv
        if command -v uv >/dev/null; then uv venv --quiet --seed --python "$python" .venv
        else "$python" -m venv .venv || fail "cannot make .venv; on Debian or Ubuntu: apt install python3-venv"; fi
    elif command -v uv >/dev/null; then
        rm -rf .venv
        uv venv --quiet --seed --python 3.12 .venv
    else
        fail "needs Python 3.11, 3.12 or 3.13; install one, or set PYTHON to its path."
    fi
fi

# Installed once per content of the pins: the marker is a copy of them, written when all is in place.
marker=.venv/installed-$requirements
if ! { cmp -s "$requirements" "$marker" && cmp -s pyproject.toml .venv/installed-pyproject.toml; }; then
    echo "Installing $requirements into .venv: about 2.6 GB of disk, minutes with a fast network ..."
    if command -v uv >/dev/null; then
        uv pip install --quiet --python .venv/bin/python -r "$requirements"
        uv pip install --quiet --python .venv/bin/python --no-deps --editable .
    else
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    fi
    cp pyproject.toml .venv/installed-pyproject.toml
    cp "$requirements" "$marker"
fi

case $mode in
    demo)
        echo "The student of the package, trained on EMO-DB:"
        .venv/bin/light-sernet-kd predict --examples ${recording:+"$recording"} || true
        echo "Now a student of your own, of SYNTHETIC speech, alone and taught: four minutes on two cores."
        .venv/bin/python train.py -dn demo -id 1.5 -kd ours --run demo \
            --epochs 8 --folds s1,s2,s3 --teacher_width 1.25 --teacher_epochs 6 --alone "$@"
        echo "Try it: .venv/bin/light-sernet-kd predict result/demo data/demo"
        echo "Next, with recordings of your own: docs/quickstart.md" ;;
    test) .venv/bin/python -m pytest "$@" ;;
    paper) .venv/bin/python train.py paper "$@" ;;
esac
