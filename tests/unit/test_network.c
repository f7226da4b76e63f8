/* Ranges, CIDR notation and the choice of addresses, as far as no bridge is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "network/bridge.h"
#include "network/check.h"
#include "network/range.h"
#include "network/rtnl.h"

static void ranges_good(void **state)
{
	struct range r[RANGES_MAX];

	assert_int_equal(ranges_parse("10.0.0.10-10.0.0.99", r, RANGES_MAX), 1);
	assert_int_equal(r[0].first, 0x0a00000a);
	assert_int_equal(r[0].last, 0x0a000063);
	assert_int_equal(ranges_parse(" 10.0.0.1 - 10.0.0.1 , 10.0.1.0-10.0.1.255", r, RANGES_MAX), 2);
	assert_int_equal(r[1].last, 0x0a0001ff);
	assert_int_equal(ranges_parse("", r, RANGES_MAX), 0);
}

static void ranges_bad(void **state)
{
	static const char *const bad[] = { "10.0.0.1",	      "10.0.0.9-10.0.0.1", "10.0.0.1-",	 "-10.0.0.1",
					   "10.0.0.1-10.0.0", "10.0.0.1-10.0.0.2,", "a-b",
					   "10.0.0.1-10.0.0.2x", "1111111111111111111111-1.1.1.1" };
	struct range r[2];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(ranges_parse(bad[i], r, 2), -EINVAL);
	assert_int_equal(ranges_parse("1.0.0.1-1.0.0.1,1.0.0.2-1.0.0.2,1.0.0.3-1.0.0.3", r, 2), -E2BIG);
}

static void cidr(void **state)
{
	static const char *const bad[] = { "10.0.0.1", "10.0.0.1/", "10.0.0.1/31", "10.0.0.1/7", "x/24",
					   "0.0.0.0/24", "10.0.0.1/24x", "1000000000000000000000.0.0.1/24" };
	struct bridge_net n;

	assert_int_equal(bridge_parse_cidr("10.83.0.1/24", &n), 0);
	assert_int_equal(n.address, htonl(0x0a530001));
	assert_int_equal(n.prefix, 24);
	assert_int_equal(bridge_parse_cidr("none", &n), 0);
	assert_int_equal(n.address, 0);
	assert_int_equal(bridge_parse_cidr(NULL, &n), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(bridge_parse_cidr(bad[i], &n), -EINVAL);
}

static int checked(const char *address, const char *ranges, const char *uplinks)
{
	json_t *config = json_pack("{s:s, s:s, s:s}", "ipv4.address", address, "ipv4.dhcp.ranges", ranges,
				   "bridge.external_interfaces", uplinks);
	int r = network_config_check("br0", config, NULL);

	json_decref(config);
	return r;
}

static void config(void **state)
{
	static const char *const good[][2] = {
		{ "10.0.0.1/24", "" }, { "10.0.0.255/23", "" }, { "10.0.0.254/24", "10.0.0.0-10.0.0.255" }, { "none", "" }, { "", "" },
		{ "10.0.0.1/30", "10.0.0.2-10.0.0.2" }, { "10.0.0.1/8", "10.0.0.2-10.0.0.3,10.255.255.1-10.255.255.255" },
	};
	static const char *const bad[][2] = {
		{ "300.1.1.1/24", "" },	 { "10.0.0.0/31", "" },	    { "10.0.0.0/24", "" },   { "10.0.0.255/24", "" },
		{ "10.0.0.1/0", "" },	 { "127.0.0.1/8", "" },	    { "224.0.0.1/24", "" },  { "255.255.255.254/30", "" },
		{ "0.1.2.3/24", "" },	 { "10.0.0.1/24", "10.0.0.1-10.0.0.1" }, { "10.0.0.1/24", "10.0.1.1-10.0.1.2" },
		{ "10.0.0.1/24", "10.0.0.9-10.0.1.2" }, { "10.0.0.1/24", "10.0.0.0-10.0.0.1" }, { "10.0.0.1/24", "10.0.0.255-10.0.0.255" },
		{ "none", "10.0.0.2-10.0.0.3" }, { "10.0.0.1/24", "10.0.0.9-10.0.0.2" }, { "10.0.0.1/24", " " },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(checked(good[i][0], good[i][1], "eth1, eth2"), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(checked(bad[i][0], bad[i][1], ""), -EINVAL);
	assert_int_equal(checked("10.0.0.1/24", "", "eth1,br0"), -EINVAL);
}

/* A request that does not fit is remembered as such and never sent. */
static void rtnl_overflow(void **state)
{
	static const char big[2000];
	struct rtnl q;

	rtnl_init(&q, RTM_NEWLINK, 0, sizeof(q.link));
	rtnl_put(&q, 1, big, sizeof(big));
	rtnl_put_str(&q, 2, "x");
	assert_int_equal(rtnl_call(&q), -EMSGSIZE);
	rtnl_init(&q, RTM_NEWLINK, 0, sizeof(q.link));
	for (int i = 0; i < 200; i++)
		rtnl_put(&q, 1, big, 16);
	assert_int_equal(rtnl_call(&q), -EMSGSIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_good),
		cmocka_unit_test(ranges_bad),
		cmocka_unit_test(cidr),
		cmocka_unit_test(config),
		cmocka_unit_test(rtnl_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
