// Datagrams, in batches. CMSG_* are macros, which Swift cannot call.
#pragma once

#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "Result.h"

static inline int clx_datagram_socket(int family) {
  return (int)CLX_RESULT(socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP));
}
/// An IPv4 or IPv6 socket address.
union clx_address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

/// `struct mmsghdr` (recvmmsg(2)), which libc declares under _GNU_SOURCE alone.
struct clx_message {
  struct msghdr header;
  unsigned int length;
};

enum {
  CLX_BATCH = 64,            // datagrams per call
  CLX_BATCH_PARTS = 512,     // pieces of memory that they are gathered from
  CLX_HEADER_BYTES = 32,     // copied into the batch for each datagram
  CLX_DATAGRAM_BYTES = 65536,
  CLX_UDP_SEGMENT = 103,     // <linux/udp.h>
  CLX_UDP_GRO = 104,
  CLX_IPV6_ORIGDSTADDR = 74, // <linux/in6.h>, which conflicts with libc's
  CLX_IPV6_TRANSPARENT = 75,
  CLX_SO_SNDBUFFORCE = 32,
  CLX_SO_RCVBUFFORCE = 33,   // <asm-generic/socket.h>
  CLX_SO_RXQ_OVFL = 40,
  CLX_SO_NETNS_COOKIE = 71,
};

/// What recvmmsg(2) fills in, with the control messages of IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR,
/// UDP_GRO and SO_RXQ_OVFL.
struct clx_receive_batch {
  struct clx_message messages[CLX_BATCH];
  struct iovec parts[CLX_BATCH];
  union clx_address sources[CLX_BATCH];
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(struct sockaddr_in6)) + 2 * CMSG_SPACE(sizeof(int))];
  } controls[CLX_BATCH];
};

// MADV_DONTNEED (madvise(2)): pages of anonymous memory go, and read as zeros if they are used again.
static inline void clx_release_memory(void *memory, size_t count) { madvise(memory, count, MADV_DONTNEED); }

/// One datagram of a batch, or several of the same size that the kernel has joined (UDP_GRO):
/// `segment` is that size then, else 0. `destination` has family 0 if the kernel did not tell it.
/// `lost` is how many the socket had no room for, in all, before this one; it wraps around.
struct clx_received {
  size_t length;
  size_t segment;
  uint32_t lost;
  union clx_address destination;
};

/// Fills the slots from `first` on, at most `count` of them, each with CLX_DATAGRAM_BYTES of room
/// in `memory`; returns how many.
static inline long clx_receive_batch(int fd, struct clx_receive_batch *batch, char *memory,
                                     unsigned first, unsigned count) {
  for (unsigned i = first; i < first + count; i++) {
    batch->parts[i] = (struct iovec){.iov_base = memory + (size_t)i * CLX_DATAGRAM_BYTES,
                                     .iov_len = CLX_DATAGRAM_BYTES};
    batch->messages[i].header = (struct msghdr){
        .msg_name = &batch->sources[i], .msg_namelen = sizeof batch->sources[i],
        .msg_iov = &batch->parts[i], .msg_iovlen = 1,
        .msg_control = batch->controls[i].bytes, .msg_controllen = sizeof batch->controls[i].bytes};
  }
  return CLX_RESULT(syscall(SYS_recvmmsg, fd, batch->messages + first, count, MSG_DONTWAIT, NULL));
}
static inline void clx_read_received(const struct clx_receive_batch *batch, unsigned index,
                                     struct clx_received *received) {
  struct msghdr *message = (struct msghdr *)&batch->messages[index].header;
  received->length = batch->messages[index].length;
  received->segment = 0;
  received->lost = 0;
  received->destination.any.sa_family = 0;
  for (struct cmsghdr *entry = CMSG_FIRSTHDR(message); entry != NULL;
       entry = CMSG_NXTHDR(message, entry)) {
    size_t length = entry->cmsg_len - CMSG_LEN(0);
    if (entry->cmsg_level == IPPROTO_UDP && entry->cmsg_type == CLX_UDP_GRO) {
      int segment;
      memcpy(&segment, CMSG_DATA(entry), sizeof segment);
      if ((size_t)segment < received->length) received->segment = (size_t)segment;
    } else if (entry->cmsg_level == SOL_SOCKET && entry->cmsg_type == CLX_SO_RXQ_OVFL) {
      memcpy(&received->lost, CMSG_DATA(entry), sizeof received->lost);
    } else if ((entry->cmsg_level == IPPROTO_IP && entry->cmsg_type == IP_ORIGDSTADDR) ||
               (entry->cmsg_level == IPPROTO_IPV6 && entry->cmsg_type == CLX_IPV6_ORIGDSTADDR)) {
      if (length <= sizeof received->destination) {
        memcpy(&received->destination, CMSG_DATA(entry), length);
      }
    }
  }
}
static inline size_t clx_received_bytes(const struct clx_receive_batch *batch, unsigned first,
                                        unsigned count) {
  size_t bytes = 0;
  for (unsigned i = first; i < first + count; i++) bytes += batch->messages[i].length;
  return bytes;
}
static inline const void *clx_received_source(const struct clx_receive_batch *batch, unsigned index) {
  return &batch->sources[index];
}

/// What sendmmsg(2) takes: each datagram is gathered from parts, which stay where they are, and a
/// header, which is copied.
struct clx_send_batch {
  struct clx_message messages[CLX_BATCH];
  struct iovec parts[CLX_BATCH_PARTS];
  union clx_address names[CLX_BATCH];
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(struct in6_addr) + sizeof(unsigned int))];
  } controls[CLX_BATCH];
  unsigned char headers[CLX_BATCH][CLX_HEADER_BYTES];
  unsigned message_count;
  unsigned part_count;
};

static inline void clx_begin_message(struct clx_send_batch *batch) {
  batch->messages[batch->message_count++].header =
      (struct msghdr){.msg_iov = &batch->parts[batch->part_count]};
}
static inline struct msghdr *clx_last_message(struct clx_send_batch *batch) {
  return &batch->messages[batch->message_count - 1].header;
}
static inline void clx_add_part(struct clx_send_batch *batch, const void *bytes, size_t count) {
  batch->parts[batch->part_count++] = (struct iovec){.iov_base = (void *)bytes, .iov_len = count};
  clx_last_message(batch)->msg_iovlen++;
}
/// Room for the header of the last message.
static inline unsigned char *clx_message_header(struct clx_send_batch *batch) {
  return batch->headers[batch->message_count - 1];
}
static inline void clx_set_name(struct clx_send_batch *batch, const struct sockaddr *address,
                                socklen_t length) {
  union clx_address *name = &batch->names[batch->message_count - 1];
  memcpy(name, address, length);
  clx_last_message(batch)->msg_name = name;
  clx_last_message(batch)->msg_namelen = length;
}
static inline void clx_set_control(struct clx_send_batch *batch, int level, int type,
                                   const void *value, size_t count) {
  struct msghdr *message = clx_last_message(batch);
  struct cmsghdr *entry = &batch->controls[batch->message_count - 1].header;
  *entry = (struct cmsghdr){.cmsg_len = CMSG_LEN(count), .cmsg_level = level, .cmsg_type = type};
  memcpy(CMSG_DATA(entry), value, count);
  message->msg_control = entry;
  message->msg_controllen = CMSG_SPACE(count);
}
/// The address that the last message is to come from: IP_PKTINFO (ip(7)) and IPV6_PKTINFO.
static inline void clx_set_source(struct clx_send_batch *batch, const struct sockaddr *address) {
  if (address->sa_family == AF_INET) {
    struct in_pktinfo from = {.ipi_spec_dst = ((const struct sockaddr_in *)address)->sin_addr};
    clx_set_control(batch, IPPROTO_IP, IP_PKTINFO, &from, sizeof from);
  } else {
    struct {
      struct in6_addr address;
      unsigned int interface;
    } from = {.address = ((const struct sockaddr_in6 *)address)->sin6_addr};
    clx_set_control(batch, IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof from);
  }
}
/// The last message is to be cut into datagrams of this size.
static inline void clx_set_segment(struct clx_send_batch *batch, uint16_t bytes) {
  clx_set_control(batch, IPPROTO_UDP, CLX_UDP_SEGMENT, &bytes, sizeof bytes);
}
/// Sends from the message at `first` on; returns how many were taken before the first that failed.
static inline long clx_send_batch(int fd, struct clx_send_batch *batch, unsigned first) {
  return CLX_RESULT(syscall(SYS_sendmmsg, fd, batch->messages + first, batch->message_count - first,
                            MSG_NOSIGNAL | MSG_DONTWAIT));
}

/// A raw socket whose payload begins with the UDP header; the kernel makes the IP header.
static inline int clx_raw_datagram_socket(int family) {
  return (int)CLX_RESULT(socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP));
}
