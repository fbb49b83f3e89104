/* Prints every name of the root file system with what stat(2) says of it; with the argument
 * "change" it first adds, alters, renames and deletes what the image brought. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int show(const char *path, const struct stat *s, int type, struct FTW *where)
{
	char target[4096] = "";
	if (type == FTW_SL)
		target[readlink(path, target, sizeof target - 1)] = 0;
	printf("%s %o %d:%d %lld %lx %s\n", path, s->st_mode, s->st_uid, s->st_gid,
	       S_ISDIR(s->st_mode) ? 0LL : (long long)s->st_size, (long)s->st_rdev, target);
	return 0;
}

static int change(void)
{
	int file = open("/etc/changed", O_WRONLY | O_APPEND);
	return file < 0 || write(file, "more", 4) != 4 || close(file) ||
	       mkdir("/made", 0750) || symlink("/etc", "/made/link") ||
	       chown("/etc/owned", 7, 8) || chmod("/etc/owned", 04711) ||
	       unlink("/etc/deleted") || rename("/etc/renamed", "/made/renamed");
}

int main(int count, char **words)
{
	if (count > 1 && !strcmp(words[1], "change") && change()) {
		perror("change");
		return 1;
	}
	return nftw("/", show, 20, FTW_PHYS | FTW_MOUNT);
}
