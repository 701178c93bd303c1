# The first process of a node: makes its view of this machine, then reaps orphans.
# Started in new mount, network and pid namespaces; when it ends, the kernel ends every
# process of the node and takes its mounts and links away.
# $1: the folder in which the node keeps what is too big for memory.
set -eu
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
for part in kubelet containerd; do
  mkdir -p "$1/$part" "/var/lib/$part"
  mount --bind "$1/$part" "/var/lib/$part"
done
mkdir -p "$1/log"
mount --bind "$1/log" /var/log
# kubelet sets these, and they are the whole machine's: it gets copies to write to.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
  kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  copy=/run/settings/$setting
  mkdir -p "$(dirname "$copy")"
  cat "/proc/sys/$setting" > "$copy"
  mount --bind "$copy" "/proc/sys/$setting"
done
# kubelet's mounts must reach containerd and the pods.
mount --make-rshared /
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
# A kernel without IPv6 has no such setting.
if [ -e /proc/sys/net/ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; fi
echo "the node's namespaces are ready"
sleep infinity &
wait
