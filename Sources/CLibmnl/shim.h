// libmnl, and what the kernel's rtnetlink messages are made of.
#pragma once
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/netconf.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
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
/// The same for such a socket that is there already. It owns the descriptor unless it is NULL.
static inline struct mnl_socket *clx_mnl_adopt(int fd, int *error) {
  struct mnl_socket *socket = mnl_socket_fdopen(fd);
  if (socket == NULL) *error = -errno;
  return socket;
}
/// Joins or leaves a multicast group (RTNLGRP_*, NFNLGRP_*).
static inline int clx_mnl_join(const struct mnl_socket *socket, int group) {
  return mnl_socket_setsockopt(socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0 ? -errno : 0;
}
static inline int clx_mnl_leave(const struct mnl_socket *socket, int group) {
  return mnl_socket_setsockopt(socket, NETLINK_DROP_MEMBERSHIP, &group, sizeof group) < 0 ? -errno : 0;
}
static inline long clx_mnl_send(const struct mnl_socket *socket, const void *bytes, size_t count) {
  ssize_t sent = mnl_socket_sendto(socket, bytes, count);
  return sent < 0 ? -errno : sent;
}
static inline long clx_mnl_receive(const struct mnl_socket *socket, void *bytes, size_t count) {
  ssize_t received = mnl_socket_recvfrom(socket, bytes, count);
  return received < 0 ? -errno : received;
}
