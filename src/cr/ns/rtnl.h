/* rtnl - rtnetlink without a library: dumps as raw messages, requests, attributes. */
#pragma once
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* All messages that answer a dump request, one behind the other, aligned as the kernel sent them.
 * hdr: the family's own head (struct ifaddrmsg …), zero but for the family. */
int rtnl_dump(int sock, uint16_t type, const void *hdr, size_t len, struct buf *ret);
/* A request that is acknowledged; the message is complete but for sequence and ack flag. */
int rtnl_talk(int sock, struct nlmsghdr *m);

/* Walks messages in a buffer, also in one that is not trusted: NULL at the end or where one is cut.
 */
const struct nlmsghdr *rtnl_next(const void *data, size_t len, size_t *pos);
/* The family's own head, if the message has one of this size; and where attributes begin. */
const void *rtnl_head(const struct nlmsghdr *m, size_t len);
const struct rtattr *rtnl_attr(const struct nlmsghdr *m, size_t head, unsigned short type);
/* Attributes one by one; *pos starts at 0. */
const struct rtattr *rtnl_attr_next(const struct nlmsghdr *m, size_t head, size_t *pos);
static inline size_t rtnl_attr_len(const struct rtattr *a)
{
	return a->rta_len - RTA_LENGTH(0);
}
bool rtnl_attr_u32(const struct rtattr *a, uint32_t *ret);

/* Building: a message in a buffer of its own. */
int rtnl_begin(struct buf *b, uint16_t type, uint16_t flags, const void *hdr, size_t len);
int rtnl_add(struct buf *b, unsigned short type, const void *data, size_t len);
