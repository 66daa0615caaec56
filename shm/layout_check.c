/* layout_check.c - compiles the layout headers with implicit padding forbidden:
 * every byte of every segment has a name. */
#pragma GCC diagnostic error "-Wpadded"
#include "layout/l_control.h"
#include "layout/l_pool.h"
#include "layout/l_table.h"
#include "layout/l_item.h"
#include "layout/l_client.h"
#include "layout/l_journal.h"
#include "layout/l_feed.h"
typedef int layout_check_not_empty;
