#include "CLinux.h"

// SwiftPM compiles a C target only if it has a source file; the layouts relied on are asserted here.
_Static_assert(sizeof(struct epoll_event) == 12 || sizeof(struct epoll_event) == 16,
               "epoll_event is packed on x86-64 and naturally aligned elsewhere");
