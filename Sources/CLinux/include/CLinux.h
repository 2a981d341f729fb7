// Thin wrappers over the system calls that Sluice makes. Each returns the call's result, or -errno.
// They exist because `import Glibc` has neither epoll nor splice, cannot import variadic functions
// and function-like macros, and because errno is not safe to read from Swift after other code ran.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLX_RESULT(expr)                                                                           \
  ({                                                                                               \
    long clx_result_ = (long)(expr);                                                               \
    clx_result_ < 0 ? -(long)errno : clx_result_;                                                  \
  })

// Descriptors and files.

static inline int clx_close(int fd) { return (int)CLX_RESULT(close(fd)); }
static inline long clx_read(int fd, void *buffer, size_t count) {
  return CLX_RESULT(read(fd, buffer, count));
}
static inline long clx_write(int fd, const void *buffer, size_t count) {
  return CLX_RESULT(write(fd, buffer, count));
}
static inline int clx_open(const char *path, int flags, mode_t mode) {
  return (int)CLX_RESULT(open(path, flags | O_CLOEXEC, mode));
}
