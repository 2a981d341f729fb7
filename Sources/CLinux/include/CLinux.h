// Thin wrappers over the system calls that Sluice makes. Each returns the call's result, or -errno.
// They exist because `import Glibc` has neither epoll nor splice, cannot import variadic functions
// and function-like macros, and because errno is not safe to read from Swift after other code ran.
#pragma once

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/inet_diag.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <malloc.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "Datagrams.h"
#include "Result.h"

// _GNU_SOURCE would make types of this module differ from those of Swift's Glibc module, which is
// built without it; so what libc declares only under it is declared here.
extern int accept4(int, struct sockaddr *, socklen_t *, int);
extern int pipe2(int[2], int);
extern int sem_clockwait(sem_t *, clockid_t, const struct timespec *);
extern ssize_t splice(int, off_t *, int, off_t *, size_t, unsigned int);
enum {
  CLX_SPLICE_F_MOVE = 1,       // <bits/fcntl-linux.h>
  CLX_SPLICE_F_NONBLOCK = 2,
  CLX_F_SETPIPE_SZ = 1031,
};

// The data plane's own calls go past the C library's functions: in a process of several threads each of
// those first and last says that the thread may be cancelled (pthreads(7)), by two locked instructions.

// Descriptors and files.

static inline int clx_close(int fd) { return (int)CLX_RESULT(syscall(SYS_close, fd)); }
static inline long clx_read(int fd, void *buffer, size_t count) {
  return CLX_RESULT(read(fd, buffer, count));
}
static inline long clx_write(int fd, const void *buffer, size_t count) {
  return CLX_RESULT(write(fd, buffer, count));
}
static inline int clx_open(const char *path, int flags, mode_t mode) {
  return (int)CLX_RESULT(open(path, flags | O_CLOEXEC, mode));
}
/// Type and permissions of a file, as `st_mode` (inode(7)).
static inline int clx_mode(int fd) {
  struct stat status;
  return fstat(fd, &status) < 0 ? -errno : (int)status.st_mode;
}
static inline int clx_memory_file(const char *name) {
  return (int)CLX_RESULT(syscall(SYS_memfd_create, name, 1U /* MFD_CLOEXEC */));
}
static inline long clx_pread(int fd, void *buffer, size_t count, off_t offset) {
  return CLX_RESULT(pread(fd, buffer, count, offset));
}
static inline int clx_pipe(int ends[2]) { return (int)CLX_RESULT(pipe2(ends, O_NONBLOCK | O_CLOEXEC)); }
static inline int clx_set_pipe_bytes(int fd, int bytes) {
  return (int)CLX_RESULT(fcntl(fd, CLX_F_SETPIPE_SZ, bytes));
}
static inline long clx_readlink(const char *path, char *buffer, size_t count) {
  return CLX_RESULT(readlink(path, buffer, count));
}

/// The inode number of a directory.
static inline long clx_directory_inode(const char *path, uint64_t *inode) {
  struct stat status;
  if (stat(path, &status) < 0) return -errno;
  if (!S_ISDIR(status.st_mode)) return -ENOTDIR;
  *inode = status.st_ino;
  return 0;
}

// Readiness. `struct epoll_event` is packed on x86-64, which Swift cannot address field by field.

static inline int clx_epoll_create(void) { return (int)CLX_RESULT(epoll_create1(EPOLL_CLOEXEC)); }
static inline int clx_epoll_control(int epoll, int operation, int fd, uint32_t events,
                                    uint64_t token) {
  struct epoll_event event = {.events = events, .data.u64 = token};
  return (int)CLX_RESULT(epoll_ctl(epoll, operation, fd, &event));
}
static inline int clx_epoll_wait(int epoll, struct epoll_event *events, int count, int milliseconds) {
  return (int)CLX_RESULT(syscall(SYS_epoll_pwait, epoll, events, count, milliseconds, NULL, 0));
}
static inline uint32_t clx_epoll_events(const struct epoll_event *events, int index) {
  return events[index].events;
}
static inline uint64_t clx_epoll_token(const struct epoll_event *events, int index) {
  return events[index].data.u64;
}
static inline int clx_eventfd(void) { return (int)CLX_RESULT(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }
static inline int clx_poll(int fd, short events, int milliseconds) {
  struct pollfd entry = {.fd = fd, .events = events};
  return (int)CLX_RESULT(poll(&entry, 1, milliseconds));
}

// Sockets.

static inline int clx_stream_socket(int family) {
  return (int)CLX_RESULT(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
}
static inline int clx_bind(int fd, const struct sockaddr *address, socklen_t length) {
  return (int)CLX_RESULT(bind(fd, address, length));
}
static inline int clx_listen(int fd, int backlog) { return (int)CLX_RESULT(listen(fd, backlog)); }
static inline int clx_accept(int fd, struct sockaddr *address, socklen_t *length) {
  return (int)CLX_RESULT(syscall(SYS_accept4, fd, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC));
}
static inline int clx_connect(int fd, const struct sockaddr *address, socklen_t length) {
  return (int)CLX_RESULT(syscall(SYS_connect, fd, address, length));
}
static inline int clx_shutdown(int fd, int how) { return (int)CLX_RESULT(shutdown(fd, how)); }
static inline long clx_recv(int fd, void *buffer, size_t count) {
  return CLX_RESULT(syscall(SYS_recvfrom, fd, buffer, count, 0, NULL, NULL));
}
/// Leaves what it gives where it is.
static inline long clx_peek(int fd, void *buffer, size_t count) {
  return CLX_RESULT(syscall(SYS_recvfrom, fd, buffer, count, MSG_PEEK, NULL, NULL));
}
/// Drops up to `count` bytes of a TCP socket's queue (tcp(7), MSG_TRUNC).
static inline long clx_discard(int fd, size_t count) {
  return CLX_RESULT(syscall(SYS_recvfrom, fd, NULL, count, MSG_TRUNC, NULL, NULL));
}
static inline long clx_send(int fd, const void *buffer, size_t count) {
  return CLX_RESULT(syscall(SYS_sendto, fd, buffer, count, MSG_NOSIGNAL, NULL, 0));
}
/// Partial segments wait for what follows (tcp(7), TCP_CORK; send(2), MSG_MORE).
static inline long clx_send_more(int fd, const void *buffer, size_t count) {
  return CLX_RESULT(syscall(SYS_sendto, fd, buffer, count, MSG_NOSIGNAL | MSG_MORE, NULL, 0));
}
static inline long clx_splice(int from, int to, size_t count) {
  return CLX_RESULT(syscall(SYS_splice, from, NULL, to, NULL, count,
                            CLX_SPLICE_F_MOVE | CLX_SPLICE_F_NONBLOCK));
}
static inline int clx_set_option(int fd, int level, int name, const void *value, socklen_t length) {
  return (int)CLX_RESULT(setsockopt(fd, level, name, value, length));
}
static inline int clx_get_option(int fd, int level, int name, void *value, socklen_t *length) {
  return (int)CLX_RESULT(getsockopt(fd, level, name, value, length));
}
// Microseconds; 0 while none has been measured, or -errno. <linux/tcp.h>, struct tcp_info,
// tcpi_min_rtt: the structure of <netinet/tcp.h> ends before it.
static inline long clx_least_round_trip(int fd) {
  uint32_t info[38] = {0};
  socklen_t length = sizeof info;
  int result = clx_get_option(fd, IPPROTO_TCP, TCP_INFO, info, &length);
  if (result < 0) return result;
  return length == sizeof info ? (long)info[37] : 0;
}
static inline int clx_window_size(int fd, struct winsize *size) {
  return (int)CLX_RESULT(ioctl(fd, TIOCGWINSZ, size));
}
/// What a connection has carried, of struct tcp_info as above.
struct clx_stream_counts {
  uint64_t acknowledged;  // tcpi_bytes_acked: what the peer has got of ours
  uint64_t received;      // tcpi_bytes_received
  uint8_t state;          // tcpi_state
};
static inline int clx_read_stream_counts(int fd, struct clx_stream_counts *counts) {
  uint64_t info[17] = {0};
  socklen_t length = sizeof info;
  int result = clx_get_option(fd, IPPROTO_TCP, TCP_INFO, info, &length);
  if (result < 0) return result;
  if (length < sizeof info) return -ENOPROTOOPT;
  counts->acknowledged = info[15];
  counts->received = info[16];
  counts->state = *(const uint8_t *)info;
  return 0;
}
static inline int clx_local_address(int fd, struct sockaddr *address, socklen_t *length) {
  return (int)CLX_RESULT(getsockname(fd, address, length));
}
static inline int clx_peer_address(int fd, struct sockaddr *address, socklen_t *length) {
  return (int)CLX_RESULT(getpeername(fd, address, length));
}
static inline int clx_local_socket(void) {
  return (int)CLX_RESULT(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}
static inline int clx_local_datagram_socket(void) {
  return (int)CLX_RESULT(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}
/// What SO_PEERCRED (unix(7)) tells: struct ucred, which is declared under _GNU_SOURCE alone.
struct clx_peer {
  pid_t process;
  uid_t user;
  gid_t group;
};
static inline int clx_peer(int fd, struct clx_peer *peer) {
  socklen_t length = sizeof *peer;
  return (int)CLX_RESULT(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &length));
}
/// The question after one socket by its addresses (sock_diag(7)).
struct clx_diagnosis_question {
  struct nlmsghdr header;
  struct inet_diag_req_v2 request;
};
_Static_assert(sizeof(struct clx_diagnosis_question) == 72, "netlink messages have no gaps");
/// INET_DIAG_CGROUP_ID of <linux/inet_diag.h>, which headers before Linux 5.8 lack.
enum { CLX_INET_DIAG_CGROUP_ID = 21 };
static inline int clx_diagnosis_socket(void) {
  return (int)CLX_RESULT(
      socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
}
/// The inode number of a socket's name in the file system.
static inline int clx_socket_inode(const char *path, uint64_t *inode) {
  struct stat status;
  if (lstat(path, &status) < 0) return -errno;
  if (!S_ISSOCK(status.st_mode)) return -ENOTSOCK;
  *inode = status.st_ino;
  return 0;
}
static inline int clx_unlink(const char *path) { return (int)CLX_RESULT(unlink(path)); }
static inline int clx_make_directory(const char *path, mode_t mode) {
  return (int)CLX_RESULT(mkdir(path, mode));
}
static inline int clx_set_mode(const char *path, mode_t mode) {
  return (int)CLX_RESULT(chmod(path, mode));
}
static inline int clx_set_group(const char *path, gid_t group) {
  return (int)CLX_RESULT(lchown(path, (uid_t)-1, group));
}
static inline int clx_set_close_on_exec(int fd) {
  return (int)CLX_RESULT(fcntl(fd, F_SETFD, FD_CLOEXEC));
}
static inline int clx_set_nonblocking(int fd) {
  int flags = (int)CLX_RESULT(fcntl(fd, F_GETFL));
  return flags < 0 ? flags : (int)CLX_RESULT(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

// Constants that Debian 12's libc headers lack or define in a header that conflicts with them
// (linux/netfilter_ipv6/ip6_tables.h).
enum {
  CLX_IP6T_SO_ORIGINAL_DST = 80,
};

// Process.

static inline int clx_signalfd(const sigset_t *set) {
  return (int)CLX_RESULT(signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC));
}
static inline int clx_block_signals(const sigset_t *set) {
  return -pthread_sigmask(SIG_BLOCK, set, NULL);
}
static inline void clx_ignore_broken_pipe(void) { signal(SIGPIPE, SIG_IGN); }
static inline void clx_ignore_signal(int number) { signal(number, SIG_IGN); }
/// Blocks signals, or has those blocked alone that `former` was given.
static inline void clx_hold_signals(const sigset_t *set, sigset_t *former) {
  pthread_sigmask(SIG_BLOCK, set, former);
}
static inline void clx_set_signals(const sigset_t *set) { pthread_sigmask(SIG_SETMASK, set, NULL); }
/// Gives a signal its default effect; returns whether it was ignored.
static inline int clx_restore_signal(int number) { return signal(number, SIG_DFL) == SIG_IGN; }
static inline int clx_get_descriptor_limit(struct rlimit *limit) {
  return (int)CLX_RESULT(getrlimit(RLIMIT_NOFILE, limit));
}
static inline int clx_set_descriptor_limit(const struct rlimit *limit) {
  return (int)CLX_RESULT(setrlimit(RLIMIT_NOFILE, limit));
}
// Affinity masks as bytes; the mask of 8,192 processors is the largest that the kernel can have.
static inline long clx_get_affinity(uint8_t mask[1024]) {
  return CLX_RESULT(syscall(SYS_sched_getaffinity, 0, (size_t)1024, mask));
}
static inline long clx_set_affinity(const uint8_t mask[1024]) {
  return CLX_RESULT(syscall(SYS_sched_setaffinity, 0, (size_t)1024, mask));
}
// Flags of unshare(2), from <linux/sched.h>, which conflicts with libc's.
enum {
  CLX_CLONE_NEWNS = 0x00020000,
  CLX_CLONE_NEWUSER = 0x10000000,
  CLX_CLONE_NEWNET = 0x40000000,
};
/// Moves the calling thread into namespaces of its own.
static inline int clx_unshare(int flags) { return (int)CLX_RESULT(syscall(SYS_unshare, flags)); }
static inline void clx_name_thread(const char *name) { prctl(PR_SET_NAME, name); }
static inline int clx_has_capability(int capability) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) < 0) return 0;
  return (data[capability / 32].effective >> (capability % 32)) & 1;
}
/// Drops all capabilities that are not in `kept` from what can ever be had again; needs CAP_SETPCAP.
static inline int clx_bound_capabilities(uint64_t kept) {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
    if (kept >> capability & 1) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) return -errno;
  }
  return 0;
}
/// Drops all that are not in `kept` from what there is now.
static inline int clx_keep_capabilities(uint64_t kept) {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return -errno;
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) < 0) return -errno;
  for (int half = 0; half < 2; half++) {
    uint32_t mask = (uint32_t)(kept >> (32 * half));
    data[half].effective &= mask;
    data[half].permitted &= mask;
    data[half].inheritable &= mask;
  }
  return (int)CLX_RESULT(syscall(SYS_capset, &header, data));
}
// prctl(2) is variadic.
static inline int clx_set_process_option(int option, unsigned long value) {
  return (int)CLX_RESULT(prctl(option, value, 0, 0, 0));
}
static inline uint64_t clx_monotonic_milliseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}
static inline uint64_t clx_monotonic_microseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}
/// Waits for a semaphore until so many milliseconds of the monotonic clock.
static inline int clx_wait_until(sem_t *semaphore, uint64_t milliseconds) {
  struct timespec time = {.tv_sec = (time_t)(milliseconds / 1000),
                          .tv_nsec = (long)(milliseconds % 1000) * 1000000};
  int result;
  do {
    result = (int)CLX_RESULT(sem_clockwait(semaphore, CLOCK_MONOTONIC, &time));
  } while (result == -EINTR);
  return result;
}
static inline long clx_random(void *buffer, size_t count) {
  return CLX_RESULT(getrandom(buffer, count, 0));
}

// Other processes.

/// A copy of a process that has one thread.
static inline int clx_fork(void) { return (int)CLX_RESULT(fork()); }
static inline int clx_execute(const char *program, char *const arguments[]) {
  return (int)CLX_RESULT(execvp(program, arguments));
}
// close_range(2), which libc declares under _GNU_SOURCE alone; CLOSE_RANGE_CLOEXEC is 4.
static inline int clx_close_range(unsigned first, unsigned last) {
  return (int)CLX_RESULT(syscall(SYS_close_range, first, last, 0));
}
static inline int clx_close_on_execution(unsigned first) {
  return (int)CLX_RESULT(syscall(SYS_close_range, first, ~0U, 4));
}
/// Whether what is executed would inherit it.
static inline int clx_is_inherited(int fd) {
  int flags = fcntl(fd, F_GETFD);
  return flags >= 0 && !(flags & FD_CLOEXEC);
}
/// Another number of the same open file, closed on execution.
static inline int clx_copy(int fd) { return (int)CLX_RESULT(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
static inline int clx_duplicate(int fd, int number) { return (int)CLX_RESULT(dup2(fd, number)); }
static inline int clx_signal_process(pid_t process, int number) {
  return (int)CLX_RESULT(kill(process, number));
}

/// What waitpid(2) told: `how` is CLD_EXITED with the exit status, or CLD_KILLED, CLD_STOPPED or
/// CLD_CONTINUED with the signal.
struct clx_change {
  pid_t process;
  int how;
  int number;
};
/// The next change of a child's state; 0 if there is none now, -ECHILD if there is no child.
static inline int clx_next_change(struct clx_change *change, int flags) {
  int status = 0;
  int result = (int)CLX_RESULT(waitpid(-1, &status, flags | WUNTRACED | WCONTINUED));
  if (result <= 0) return result;
  change->process = result;
  if (WIFEXITED(status)) {
    *change = (struct clx_change){result, CLD_EXITED, WEXITSTATUS(status)};
  } else if (WIFSIGNALED(status)) {
    *change = (struct clx_change){result, CLD_KILLED, WTERMSIG(status)};
  } else if (WIFSTOPPED(status)) {
    *change = (struct clx_change){result, CLD_STOPPED, WSTOPSIG(status)};
  } else {
    *change = (struct clx_change){result, CLD_CONTINUED, SIGCONT};
  }
  return result;
}
static inline int clx_wait_for(pid_t process) {
  int result;
  do { result = (int)CLX_RESULT(waitpid(process, NULL, 0)); } while (result == -EINTR);
  return result;
}

/// Does to this process what a signal does by default, though it is blocked or ignored here.
static inline void clx_undergo(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  void (*former)(int) = signal(number, SIG_DFL);
  // Raised first: one that has been pending for as long as it was blocked counts as the same.
  raise(number);
  pthread_sigmask(SIG_UNBLOCK, &set, &set);
  pthread_sigmask(SIG_SETMASK, &set, NULL);
  signal(number, former);
}
static inline void clx_forbid_core(void) {
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

static inline int clx_mount(const char *source, const char *target, const char *type,
                            unsigned long flags, const char *options) {
  return (int)CLX_RESULT(mount(source, target, type, flags, options));
}
static inline int clx_detach_mount(const char *target) {
  return (int)CLX_RESULT(umount2(target, MNT_DETACH));
}

// Descriptors that are passed between processes (unix(7), SCM_RIGHTS).

static inline int clx_socket_pair(int ends[2]) {
  return (int)CLX_RESULT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
}
enum { CLX_PASSED_DESCRIPTORS = 253 };  // SCM_MAX_FD
union clx_passed {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(CLX_PASSED_DESCRIPTORS * sizeof(int))];
};
static inline long clx_send_passing(int fd, const void *bytes, size_t count, const int *passed,
                                    size_t passed_count) {
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  union clx_passed control;
  if (passed_count > CLX_PASSED_DESCRIPTORS) return -EINVAL;
  if (passed_count > 0) {
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(passed_count * sizeof(int)),
                                      .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), passed, passed_count * sizeof(int));
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(passed_count * sizeof(int));
  }
  return CLX_RESULT(sendmsg(fd, &message, MSG_NOSIGNAL));
}
/// One message; `passed` gets the descriptors that come with it.
static inline long clx_receive_passed(int fd, void *bytes, size_t count,
                                      int passed[CLX_PASSED_DESCRIPTORS], size_t *passed_count) {
  struct iovec part = {.iov_base = bytes, .iov_len = count};
  union clx_passed control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                           .msg_controllen = sizeof control};
  *passed_count = 0;
  long result = CLX_RESULT(recvmsg(fd, &message, 0x40000000 /* MSG_CMSG_CLOEXEC */));
  if (result < 0) return result;
  for (struct cmsghdr *entry = CMSG_FIRSTHDR(&message); entry != NULL;
       entry = CMSG_NXTHDR(&message, entry)) {
    if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
    *passed_count = (entry->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(passed, CMSG_DATA(entry), *passed_count * sizeof(int));
  }
  return result;
}

/// One heap (arena) for all threads that are started from here on (mallopt(3)).
static inline void clx_share_heap(void) { (void)mallopt(M_ARENA_MAX, 1); }

/// Gives the pages of the program and its libraries that are as in their files back to the kernel
/// (MADV_DONTNEED of madvise(2)); what runs or is read next is mapped again.
void clx_give_back_code(void);
