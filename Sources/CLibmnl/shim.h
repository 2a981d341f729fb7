// libmnl, and what the kernel's rtnetlink messages are made of.
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/filter.h>
#include <linux/netconf.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

// libmnl reports failures through errno, which is not safe to read from Swift after other code ran:
// these return -errno.

/// A bound, non-blocking, close-on-exec netlink socket, or NULL with the reason in `*error`.
static inline struct mnl_socket *clx_mnl_open(int bus, int *error) {
  struct mnl_socket *socket = mnl_socket_open2(bus, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (socket != NULL && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0) return socket;
  *error = -errno;
  if (socket != NULL) mnl_socket_close(socket);
  return NULL;
}
/// Joins a multicast group (RTNLGRP_*, NFNLGRP_*).
static inline int clx_mnl_join(const struct mnl_socket *socket, int group) {
  return mnl_socket_setsockopt((struct mnl_socket *)socket, NETLINK_ADD_MEMBERSHIP, &group,
                               sizeof group) < 0 ? -errno : 0;
}
/// Keeps away what the socket with this port has caused: a notification names it in nlmsg_pid, of which
/// a filter sees the bytes in network order.
static inline int clx_mnl_ignore(const struct mnl_socket *socket, uint32_t port) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(port), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
  };
  struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
  return setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_ATTACH_FILTER, &program,
                    sizeof program) < 0 ? -errno : 0;
}
static inline long clx_mnl_send(const struct mnl_socket *socket, const void *bytes, size_t count) {
  ssize_t sent = mnl_socket_sendto(socket, bytes, count);
  return sent < 0 ? -errno : sent;
}
static inline long clx_mnl_receive(const struct mnl_socket *socket, void *bytes, size_t count) {
  ssize_t received = mnl_socket_recvfrom(socket, bytes, count);
  return received < 0 ? -errno : received;
}
