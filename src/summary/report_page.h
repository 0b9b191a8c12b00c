/* SPDX-License-Identifier: Apache-2.0
 *
 * The style and the script of a report's HTML page, as they stand between their tags. The page is
 * whole without the script: it only makes the search box work.
 */
#ifndef KVERN_SUMMARY_REPORT_PAGE_H
#define KVERN_SUMMARY_REPORT_PAGE_H

extern const char report_page_style[];
extern const char report_page_script[];

#endif
