/* Parsers and tables of cr/ns. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "cr/ns/cgroup.h"
#include "cr/ns/mounts.h"
#include "cr/ns/net.h"
#include "cr/ns/rtnl.h"

static const char table[] =
	"71 45 254:0 /root/src / rw,relatime shared:24 - ext4 /dev/vda rw,discard\n"
	"80 71 0:51 / /dev rw,nosuid,relatime shared:25 master:7 - tmpfs none "
	"rw,size=492k,mode=755,uid=200000\n"
	"83 81 0:52 /sys /proc/sys ro,relatime - proc proc rw\n"
	"81 71 0:52 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n"
	"94 80 0:6 /full /dev/full rw,relatime - devtmpfs devtmpfs rw\n"
	"95 80 0:6 /zero /dev/zero rw,relatime - devtmpfs devtmpfs rw\n"
	"99 71 254:0 /root/src/a\\040b /mnt/x\\040y ro,noatime - ext4 /dev/vda rw\n"
	"100 71 0:77 / /mnt/f rw - fuse.sshfs sshfs rw\n"
	"101 71 0:78 / /mnt/t rw - tmpfs none rw\n"
	"102 71 0:78 /sub /mnt/u rw - tmpfs none rw\n"
	"103 71 0:79 / /sys/kernel/debug rw - debugfs none rw\n"
	"104 71 0:29 /host/ct /mnt/cg rw - cgroup2 none rw\n";

static const struct mnt *at(const struct mnts *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->list[i].path, path) == 0)
			return &m->list[i];
	fail_msg("no mount %s", path);
	return NULL;
}

static void bind_is(const struct mnts *m, const char *path, const char *want)
{
	char *s = mnt_bind_source(m, at(m, path));

	assert_string_equal(s, want);
	free(s);
}

static void test_mountinfo(void **state)
{
	struct mnts m;

	assert_int_equal(mnts_parse(table, &m), 0);
	assert_int_equal(m.n, 12);
	assert_int_equal(mnts_top(&m)->id, 71);
	assert_int_equal(at(&m, "/dev")->shared, 25);
	assert_int_equal(at(&m, "/dev")->master, 7);
	assert_string_equal(at(&m, "/dev")->sopts, "rw,size=492k,mode=755,uid=200000");
	assert_string_equal(at(&m, "/mnt/x y")->root, "/root/src/a b");
	bind_is(&m, "/mnt/x y", "/a b");
	bind_is(&m, "/proc/sys", "/proc/sys");
	bind_is(&m, "/mnt/u", "/mnt/t/sub");
	bind_is(&m, "/dev/zero", "");
	bind_is(&m, "/dev", "");
	assert_int_equal(mnt_way(&m, at(&m, "/")), MNT_ADOPT);
	assert_int_equal(mnt_way(&m, at(&m, "/dev")), MNT_MAKE);
	assert_int_equal(mnt_way(&m, at(&m, "/dev/full")), MNT_ADOPT);
	assert_int_equal(mnt_way(&m, at(&m, "/mnt/x y")), MNT_BIND);
	assert_int_equal(mnt_way(&m, at(&m, "/mnt/f")), MNT_REFUSE);
	assert_int_equal(mnt_way(&m, at(&m, "/sys/kernel/debug")), MNT_OPTIONAL);
	assert_int_equal(mnt_way(&m, at(&m, "/mnt/cg")), MNT_MAKE);
	mnts_done(&m);
}

static void test_mountinfo_bad(void **state)
{
	static const char *const bad[] = { "x",
					   "1 2 3 / / rw - t s o\n",
					   "1 2 0:3 / / rw t s o\n",
					   "1 2 0:3 / rel rw - t s o\n",
					   "1 2 0:3 / / rw - t s o",
					   "99999999999 2 0:3 / / rw - t s o\n" };
	struct mnts m;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(mnts_parse(bad[i], &m), -EPROTO);
	assert_int_equal(mnts_parse("", &m), 0);
	assert_int_equal(m.n, 0);
	mnts_done(&m);
}

static void test_flags(void **state)
{
	assert_int_equal(mnt_flags("rw,nosuid,relatime"), MS_NOSUID | MS_RELATIME);
	assert_int_equal(mnt_flags("ro,nodev,noexec"),
			 MS_RDONLY | MS_NODEV | MS_NOEXEC | MS_STRICTATIME);
	assert_int_equal(mnt_flags("ro-not,noatime"), MS_NOATIME);
}

static void test_ids(void **state)
{
	struct id_map m;

	assert_int_equal(id_map_parse("         0     100000      65536\n     70000  5 1\n", &m),
			 0);
	assert_int_equal(m.n, 2);
	assert_int_equal(id_inside(&m, 100000), 0);
	assert_int_equal(id_inside(&m, 165535), 65535);
	assert_int_equal(id_inside(&m, 165536), IDS_NOBODY);
	assert_int_equal(id_inside(&m, 0), IDS_NOBODY);
	assert_int_equal(id_inside(&m, 5), 70000);
	assert_int_equal(id_outside(&m, 70000), 5);
	assert_int_equal(id_outside(&m, 70001), UINT32_MAX);
	assert_int_equal(id_map_parse("0 0 4294967295\n", &m), 0);
	assert_int_equal(id_inside(&m, 4294967294u), 4294967294u);
	assert_int_equal(id_map_parse("0 0\n", &m), -EPROTO);
	assert_int_equal(id_map_parse("0 0 4294967296\n", &m), -EPROTO);
	assert_int_equal(id_map_parse("0 0 1", &m), -EPROTO);
}

static void test_rtnl(void **state)
{
	struct ifinfomsg i = { .ifi_index = 3 };
	auto_buf b = BUF_INIT;
	const struct nlmsghdr *m;
	size_t pos = 0;
	uint32_t v = 1500, got;

	assert_int_equal(rtnl_begin(&b, RTM_NEWLINK, 0, &i, sizeof(i)), 0);
	assert_int_equal(rtnl_add(&b, IFLA_IFNAME, "eth0", 5), 0);
	assert_int_equal(rtnl_add(&b, IFLA_MTU, &v, sizeof(v)), 0);
	m = rtnl_next(b.data, b.len, &pos);
	assert_non_null(m);
	assert_int_equal(((const struct ifinfomsg *)rtnl_head(m, sizeof(i)))->ifi_index, 3);
	assert_string_equal(net_link_name(m), "eth0");
	assert_true(rtnl_attr_u32(rtnl_attr(m, sizeof(i), IFLA_MTU), &got));
	assert_int_equal(got, 1500);
	assert_null(rtnl_attr(m, sizeof(i), IFLA_ADDRESS));
	assert_null(rtnl_next(b.data, b.len, &pos));
	/* cut anywhere, it is no message, or one with fewer attributes */
	for (size_t n = 0; n < b.len; n++) {
		pos = 0;
		assert_null(rtnl_next(b.data, n, &pos));
	}
	((struct nlmsghdr *)b.data)->nlmsg_len = NLMSG_LENGTH(sizeof(i)) + 6;
	pos = 0;
	m = rtnl_next(b.data, b.len, &pos);
	assert_non_null(m);
	assert_null(rtnl_attr(m, sizeof(i), IFLA_IFNAME));
	((struct nlmsghdr *)b.data)->nlmsg_len = 8;
	pos = 0;
	assert_null(rtnl_next(b.data, b.len, &pos));
}

static void test_sysctls(void **state)
{
	static const char *const bad[] = { "ipv4/../../kernel/core_pattern=x",
					   "ipv4/conf/../rp_filter=1", "nothing",
					   "ipv4/conf/lo/rp_filter/x=1", "core/bpf_jit_enable=0" };
	int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct err e;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(net_sysctls_write(proc, bad[i], strlen(bad[i]), &e), -EPROTO);
	assert_int_equal(net_sysctls_write(proc, "", 0, &e), 0);
	close(proc);
}

static void test_settings(void **state)
{
	bool early;

	assert_true(cgroup_setting_known("cpuset.cpus", &early));
	assert_true(early);
	assert_true(cgroup_setting_known("pids.max", &early));
	assert_false(early);
	assert_false(cgroup_setting_known("cgroup.procs", &early));
	assert_false(cgroup_setting_known("release_agent", &early));
	assert_false(cgroup_setting_known("../x", &early));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mountinfo), cmocka_unit_test(test_mountinfo_bad),
		cmocka_unit_test(test_flags),	  cmocka_unit_test(test_ids),
		cmocka_unit_test(test_rtnl),	  cmocka_unit_test(test_sysctls),
		cmocka_unit_test(test_settings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
