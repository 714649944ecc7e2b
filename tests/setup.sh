#!/usr/bin/env bash
# tests/setup.sh PACKAGE... - installs those of the Debian packages named whose command is missing; says nothing where
# none is. Their services are not started: tests start what they need, on ports of their own.
set -euo pipefail

command_of() {
    case $1 in
        prometheus) echo promtool ;;
        prometheus-alertmanager) echo amtool ;;
        gcc) echo cc ;;
        g++) echo c++ ;;
        nodejs) echo node ;;
        ruby-sidekiq) echo sidekiq ;;
        musl-tools) echo musl-gcc ;;
        python3-venv) echo python3 ;;
        *) echo "$1" ;;
    esac
}

missing() {
    local package
    for package; do
        command -v "$(command_of "$package")" >/dev/null || echo "$package"
    done
    # Debian's python3 has no ensurepip, which venv is nothing without
    case " $* " in *" python3-venv "*) python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv ;; esac
}

fail() {
    local package
    for package in $(missing "$@"); do
        echo "setup: no command $(command_of "$package") here; install the package $package," \
            "for instance with: sudo apt-get install $package" >&2
    done
    exit 1
}

# As root. Debian starts a service at once, on its default port; policy-rc.d is its way to say no.
install() {
    local policy=/usr/sbin/policy-rc.d package
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q || true # the lists that are here may do
    # The C library's headers are only recommended by gcc, and so left out with all else that is.
    apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" libc6-dev || return
    if [ -d /run/systemd/system ]; then
        for package; do
            systemctl disable --quiet "$package.service" 2>/dev/null || true
        done
    fi
}

# The names of Debian's packages hold no blank.
# shellcheck disable=SC2046
set -- $(missing "$@")
[ $# -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
    fail "$@"
elif [ "$(id -u)" -eq 0 ]; then
    install "$@" || fail "$@"
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    sudo bash -c "$(declare -f install); install \"\$@\"" install "$@" || fail "$@"
fi
[ -z "$(missing "$@")" ] || fail "$@"
