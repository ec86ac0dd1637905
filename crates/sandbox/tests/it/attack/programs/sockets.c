// Sockets that are no streams within the sandbox, and addresses that are not its own.
#include "attack.h"
#include <arpa/inet.h>
#include <linux/if_alg.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stddef.h>
#include <sys/un.h>

static int inet(const char *address, int port, int type) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, address, &to.sin_addr);
  int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return type == SOCK_STREAM ? 0 : send(fd, "x", 1, 0) < 0 ? -1 : 0;
  if (errno != EINPROGRESS) return -1;
  struct pollfd wait = {fd, POLLOUT, 0};
  if (poll(&wait, 1, 500) == 0) return errno = ETIMEDOUT, -1;
  socklen_t size = sizeof errno;
  int error = 0;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  errno = error;
  return error ? -1 : 0;
}

static int inet6(const char *address, int port) {
  struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  inet_pton(AF_INET6, address, &to.sin6_addr);
  return connect(socket(AF_INET6, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to);
}

static int abstract(const char *name) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  strncpy(to.sun_path + 1, name, sizeof to.sun_path - 2);
  return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static int vsock(unsigned cid) {
  struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = 22};
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
  return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to);
}

ATTACK(families) {
  TRY("raw", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
  TRY("raw 6", socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
  TRY("packet", socket(AF_PACKET, SOCK_RAW, htons(3)));
  TRY("packet datagrams", socket(AF_PACKET, SOCK_DGRAM, htons(3)));
  // Not in a namespace: it reaches the machine below a virtual host.
  TRY("vsock to the hypervisor", vsock(VMADDR_CID_HOST));
  TRY("vsock to the host", vsock(VMADDR_CID_LOCAL));
  TRY("kernel crypto", socket(AF_ALG, SOCK_SEQPACKET, 0));
  TRY("bluetooth", socket(31, SOCK_RAW, 1));
  TRY("key management", socket(AF_KEY, SOCK_RAW, 2));
  TRY("xdp", socket(44, SOCK_RAW, 0));
  TRY("tipc", socket(30, SOCK_STREAM, 0));
  TRY("rds", socket(21, SOCK_SEQPACKET, 0));
  TRY("netfilter", socket(AF_NETLINK, SOCK_RAW, 12));
  TRY("audit", socket(AF_NETLINK, SOCK_RAW, 9));
  TRY("kernel events", socket(AF_NETLINK, SOCK_DGRAM, 15));
}

ATTACK(addresses) {
  int port = number("port");
  TRY("the host's loopback", inet("127.0.0.1", port, SOCK_STREAM));
  TRY("the host's loopback, other name", inet("127.1.2.3", port, SOCK_STREAM));
  TRY("any address", inet("0.0.0.0", port, SOCK_STREAM));
  TRY("the host's loopback 6", inet6("::1", port));
  TRY("mapped loopback", inet6("::ffff:127.0.0.1", port));
  TRY("metadata", inet("169.254.169.254", 80, SOCK_STREAM));
  TRY("metadata, datagram", inet("169.254.169.254", 53, SOCK_DGRAM));
  TRY("private 10", inet("10.0.0.1", 80, SOCK_STREAM));
  TRY("private 172", inet("172.17.0.1", 80, SOCK_STREAM));
  TRY("private 192", inet("192.168.0.1", 80, SOCK_STREAM));
  TRY("outside", inet("1.1.1.1", 443, SOCK_STREAM));
  TRY("outside 6", inet6("2606:4700:4700::1111", 443));
  TRY("multicast", inet("224.0.0.1", 5353, SOCK_DGRAM));
  TRY("abstract socket of the host", abstract(argument("abstract")));
  TRY("abstract socket of the other function", abstract(argument("neighbour")));
}

// Answers on the frame socket from a process that the runtime does not know, with the runtime's own end still to come.
ATTACK(grandchild) {
  if (fork() == 0) {
    if (fork() == 0) {
      unsigned char nonsense[64];
      memset(nonsense, 0xff, sizeof nonsense);
      if (write(3, nonsense, sizeof nonsense) < 0) _exit(1);
    }
    _exit(0);
  }
  for (;;) pause();
}

// Hands the daemon as many descriptors as one message carries, with a byte of a frame.
ATTACK(hand_over) {
  enum { COUNT = 253 };
  int fds[COUNT];
  for (int i = 0; i < COUNT; i++) fds[i] = 0;
  char space[CMSG_SPACE(sizeof fds)] = {0};
  struct iovec byte = {"\xff", 1};
  for (int round = 0; round < 32; round++) {
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(head), fds, sizeof fds);
    // Only so many may be on their way at once; the daemon takes the bytes and lets the descriptors go.
    while (sendmsg(3, &message, MSG_NOSIGNAL) < 0) {
      if (errno != ETOOMANYREFS) _exit(1);
      usleep(1000);
    }
  }
  for (;;) pause();
}
