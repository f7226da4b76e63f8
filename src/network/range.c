#include "network/range.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static int address_at(const char **p, uint32_t *ret)
{
	size_t n = strspn(*p, "0123456789.");
	char text[INET_ADDRSTRLEN];
	struct in_addr a;

	if (n == 0 || n >= sizeof(text))
		return -EINVAL;
	memcpy(text, *p, n);
	text[n] = '\0';
	if (inet_pton(AF_INET, text, &a) != 1)
		return -EINVAL;
	*p += n;
	*ret = ntohl(a.s_addr);
	return 0;
}

static void blanks_skip(const char **p)
{
	*p += strspn(*p, " \t");
}

int ranges_parse(const char *text, struct range *ret, size_t max)
{
	const char *p = text;
	size_t n = 0;

	blanks_skip(&p);
	while (*p) {
		if (n == max)
			return -E2BIG;
		if (address_at(&p, &ret[n].first) < 0)
			return -EINVAL;
		blanks_skip(&p);
		if (*p++ != '-')
			return -EINVAL;
		blanks_skip(&p);
		if (address_at(&p, &ret[n].last) < 0 || ret[n].last < ret[n].first)
			return -EINVAL;
		n++;
		blanks_skip(&p);
		if (*p == ',') {
			p++;
			blanks_skip(&p);
			if (!*p)
				return -EINVAL;
		} else if (*p) {
			return -EINVAL;
		}
	}
	return (int)n;
}
