# What the rehearsals share (run-stack, run-ocs): which engine there is, and images. To be sourced.
# Reads ENGINE, COMPOSE, BUILD_OPTIONS, MIRROR; sets ENGINE, COMPOSE, format, and with_debian: debian, base.
# shellcheck shell=bash

step() { printf '\n── %s\n' "$*"; }
fail() { printf '✗ %s\n' "$*" >&2; exit 1; }

if [ -z "${ENGINE:-}" ]; then
    for ENGINE in docker podman ''; do
        [ -z "$ENGINE" ] || ! "$ENGINE" info >/dev/null 2>&1 || break
    done
    [ -n "$ENGINE" ] || fail 'neither docker nor podman answers: install podman, buildah and runc'
fi
case $ENGINE in
    *podman) COMPOSE=${COMPOSE:-podman-compose} ; format='--format docker' ;;
    *) COMPOSE=${COMPOSE:-docker compose} ; format='' ;;
esac
$COMPOSE version >/dev/null 2>&1 || fail "$COMPOSE is not there: pip install podman-compose, or say COMPOSE=…"

# free PORT…: nobody else listens there
free() {
    local port
    for port; do
        ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || fail "port $port of this host is taken"
    done
}

# image NAME CONTAINERFILE TARGET CONTEXT [ARG…]
image() {
    local name=$1 file=$2 target=$3 context=$4
    shift 4
    printf '  %s\n' "$name"
    # shellcheck disable=SC2086 # options, each a word
    "$ENGINE" build -q $format ${BUILD_OPTIONS:-} -f "$file" --target "$target" -t "$name" "$@" "$context" >/dev/null \
        || fail "$name cannot be built; where no registry can be reached: --offline"
}

# with_debian SERVER…: for where no registry can be reached, a base image by debootstrap, and the servers' images on it
base=()
with_debian() {
    local each root
    debian=localhost/skystow-debian:bookworm
    if ! "$ENGINE" image inspect "$debian" >/dev/null 2>&1; then
        step 'A base image from Debian'
        root=$(mktemp -d)
        debootstrap --variant=minbase bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}" >"$root.log" 2>&1 \
            || { tail -n 20 "$root.log" >&2; fail "debootstrap failed; see $root.log"; }
        tar -C "$root" -c . | "$ENGINE" import - "$debian" >/dev/null
        rm -rf "$root" "$root.log"
    fi
    step "The servers' images"
    BUILD_OPTIONS="--pull=never ${BUILD_OPTIONS:-}"
    for each in python "$@"; do
        image "localhost/skystow-$each" deploy/servers/Containerfile "$each" deploy/servers --build-arg "DEBIAN=$debian"
    done
    base=(--build-arg BASE=localhost/skystow-python)
}

# until_true SECONDS WHAT COMMAND…
until_true() {
    local due=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $due ] || fail "waited in vain: $what"
        sleep 0.5
    done
}
