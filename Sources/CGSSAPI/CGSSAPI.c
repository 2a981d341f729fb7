#include "CGSSAPI.h"

// SwiftPM compiles a C target only if it has a source file; the layout relied on is asserted here.
_Static_assert(sizeof(struct cgss_buffer) == 2 * sizeof(void *),
               "gss_buffer_desc is a length and a pointer (gssapi/gssapi.h)");
