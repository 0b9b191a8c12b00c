/* SPDX-License-Identifier: Apache-2.0
 *
 * The filters of jinja_filters_list.c, for the table in jinja_filters.c. Each is a
 * jinja_builtin_fn.
 */
#ifndef KVERN_TEXT_JINJA_FILTERS_H
#define KVERN_TEXT_JINJA_FILTERS_H

#include "text/jinja_value.h"

struct jinja_value jinja_filter_first(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_last(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_list(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_join(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_reverse(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_items(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_sort(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_dictsort(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_unique(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_map(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_select(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_reject(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_selectattr(struct jinja_run *run, struct jinja_value self,
                                           const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_rejectattr(struct jinja_run *run, struct jinja_value self,
                                           const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_sum(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_min(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments);
struct jinja_value jinja_filter_max(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments);

#endif
