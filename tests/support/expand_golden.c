/* SPDX-License-Identifier: Apache-2.0
 *
 * expand_golden SOURCE TARGET GROUP...: copies the folders of each group of tests/golden (SOURCE),
 * with the weights that they describe. A build runs it, so that tests find whole models.
 */
#include "test.h"

#include "base/file.h"
#include "convert/support_seeded.h"

#include <dirent.h>
#include <stdlib.h>

static void expand_group(const char *source, const char *target)
{
    DIR *group = opendir(source);
    struct dirent *entry;
    kvern_error err = {0};

    if (!group)
        fail_msg("there is no %s", source);
    while ((entry = readdir(group))) {
        char *from = path_join(source, entry->d_name);
        char *to = path_join(target, entry->d_name);

        if (entry->d_name[0] != '.' && directory_exists(from)) {
            if (directory_remove(to, &err) != KVERN_OK)
                fail_msg("%s", err.message);
            seeded_copy(from, to);
        }
        free(from);
        free(to);
    }
    closedir(group);
}

int main(int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        char *from = path_join(argv[1], argv[i]);
        char *to = path_join(argv[2], argv[i]);

        expand_group(from, to);
        free(from);
        free(to);
    }
    return argc > 3 ? 0 : 2;
}
