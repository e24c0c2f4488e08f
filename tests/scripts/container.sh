#!/bin/bash
# container.sh - a real systemd as process 1 of a throw-away container, for tests as root.
#
#   container.sh up DIR STAGE     boots; DIR is made and holds what the container is, the tree STAGE
#                                 is laid over a copy-on-write view of this machine's /
#   container.sh run DIR CMD...   runs CMD inside
#   container.sh down DIR         powers off and removes DIR
#
# DIR/leader is process 1 as this machine counts: its / is /proc/LEADER/root. Nothing in the real /
# may change while the container runs: programs to test belong in STAGE.
# ROOT names another root folder than this machine's, of another distribution, say.
# CG=unified boots it on version 2 control groups alone, where a machine that still has controllers
# in version 1 enforces no limits; else it sees what this machine has.
# Needs overlayfs and the packages systemd-container and dbus.
set -euo pipefail
verb=$1 dir=$2
shift 2
name=$(basename "$dir")
patience=30

# The control groups of the container, one in each hierarchy that this machine has mounted, below
# our own. Under a systemd of the machine's own nspawn does this itself.
groups() {
    [ ! -d /run/systemd/system ] || return 0
    if [ "${CG:-}" = unified ]; then
        # systemd keeps its own hierarchy of version 1 beside it, if there is one.
        for mount in $(awk '$3 == "cgroup2" { print $2 }' /proc/mounts) /sys/fs/cgroup/systemd; do
            [ ! -d "$mount" ] || echo "$mount/$name"
        done
        return 0
    fi
    while IFS=: read -r id controllers path; do
        if [ "$id" = 0 ]; then
            mount=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
        else
            controllers=${controllers#name=}
            mount=/sys/fs/cgroup/${controllers%%,*}
        fi
        [ -z "$mount" ] || [ ! -d "$mount" ] || echo "$mount${path%/}/$name"
    done </proc/self/cgroup
}

runs() { [ -f "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

inside() {
    nsenter -t "$(cat "$dir/leader")" -m -u -i -n -p -C -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
}

remove() {
    while read -r group; do
        for _ in $(seq 50); do
            [ -d "$group" ] || break
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
        done
    done <"$dir/groups"
    rm -rf "$dir"
}

# In a mount namespace of its own, which takes the overlay with it when it ends.
machine() {
    stage=$1
    while read -r group; do
        mkdir -p "$group"
        # A version 1 cpuset takes nobody in before it has been given something.
        for file in cpuset.cpus cpuset.mems; do
            [ ! -f "$group/$file" ] || cat "$group/../$file" >"$group/$file"
        done
        echo $$ >"$group/cgroup.procs"
    done <"$dir/groups"

    mount -t tmpfs -o mode=755,size=50% container "$dir/root"
    mkdir "$dir/root/upper" "$dir/root/work" "$dir/root/merged"
    chmod 755 "$dir/root/upper"
    root=$dir/root/merged
    mount -t overlay -o "lowerdir=${ROOT:-/},upperdir=$dir/root/upper,workdir=$dir/root/work" overlay "$root"

    mkdir -p "$root/etc/systemd/system"
    # Nothing of this machine is to be started, and nothing that needs its hardware.
    find "$root/etc/systemd/system" -mindepth 1 -maxdepth 1 \( -name '*.wants' -o -name '*.requires' \) \
        -exec rm -rf {} +
    for unit in console-getty getty@tty1 systemd-timesyncd systemd-update-utmp systemd-update-utmp-runlevel; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
    done
    rm -rf "$root/var/log/journal" "$root/etc/machine-id"
    mkdir -p "$root/var/log/journal"
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    cp -a --no-preserve=ownership "$stage/." "$root/"
    # Version 1 controllers come read-only; within this container's groups they are its own.
    cat >"$root/.container-init" <<'INIT'
#!/bin/sh
for group in memory pids cpu cpuacct cpuset blkio devices freezer; do
    mount -o remount,rw,bind,nosuid,nodev,noexec "/sys/fs/cgroup/$group" 2>/dev/null
done
exec /lib/systemd/systemd "$@"
INIT
    chmod 755 "$root/.container-init"

    keep=()
    [ ! -s "$dir/groups" ] || keep=(--keep-unit)
    [ "${CG:-}" != unified ] || export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
    # nspawn's own filter would deny what sessions' sandboxes are made of.
    export SYSTEMD_SECCOMP=0
    exec systemd-nspawn --quiet --register=no --private-network --machine="$name" --hostname="$name" \
        --kill-signal=SIGRTMIN+3 --link-journal=no --resolv-conf=off --timezone=off --console=pipe \
        "${keep[@]}" -D "$root" /.container-init
}

case $verb in
up)
    stage=$1
    mkdir -p "$dir/root"
    groups >"$dir/groups"
    export -f machine
    export dir name
    setsid unshare --mount --propagation private \
        bash -euc 'machine "$1"' machine "$stage" </dev/null >"$dir/console" 2>&1 &
    echo $! >"$dir/pid"
    end=$((SECONDS + patience))
    leader=
    until [ -n "$leader" ] && [ -S "/proc/$leader/root/run/systemd/private" ]; do
        if [ $SECONDS -ge $end ] || ! runs; then
            cat "$dir/console" >&2
            kill -KILL "$(cat "$dir/pid")" 2>/dev/null || true
            remove
            exit 1
        fi
        leader=$(pgrep -P "$(cat "$dir/pid")" -x systemd || true)
        sleep 0.02
    done
    echo "$leader" >"$dir/leader"
    # "degraded" when something of the machine does not run here, which is nothing of ours.
    timeout $patience bash -c "$(declare -f inside); dir=$dir; inside systemctl is-system-running --wait" \
        >/dev/null || true
    ;;
run)
    inside "$@"
    ;;
down)
    [ -d "$dir" ] || exit 0
    # SIGRTMIN+3 asks systemd to halt; what does not is killed with its process 1.
    runs && kill -RTMIN+3 "$(cat "$dir/leader")" 2>/dev/null
    end=$((SECONDS + patience))
    while runs; do
        [ $SECONDS -lt $end ] || kill -KILL "$(cat "$dir/leader")" "$(cat "$dir/pid")" 2>/dev/null || true
        sleep 0.02
    done
    remove
    ;;
*)
    echo "container.sh: what is $verb?" >&2
    exit 2
    ;;
esac
