// How the wrappers tell an error.
#pragma once

#include <errno.h>

#define CLX_RESULT(expr)                                                                           \
  ({                                                                                               \
    long clx_result_ = (long)(expr);                                                               \
    clx_result_ < 0 ? -(long)errno : clx_result_;                                                  \
  })
