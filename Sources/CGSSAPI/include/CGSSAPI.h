// The few functions of GSSAPI (RFC 2744) that a client needs, found in the library at run time: the
// program must start where there is none, and be built without its headers. Types and values are
// those of MIT's <gssapi/gssapi.h>. The wrappers exist because Swift cannot call what dlsym returns
// without a type, and each returns the call's major status.
#pragma once

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cgss_buffer {
  size_t length;
  void *value;
};

struct cgss_oid {
  uint32_t length;
  void *elements;
};

enum {
  CGSS_COMPLETE = 0,
  CGSS_CONTINUE_NEEDED = 1,
  CGSS_SUPPLEMENTARY_BITS = 0xFFFF,
  CGSS_DUPLICATE_TOKEN = 1 << 1,
  CGSS_OLD_TOKEN = 1 << 2,
  CGSS_UNSEQ_TOKEN = 1 << 3,
  CGSS_GAP_TOKEN = 1 << 4,
  CGSS_NO_CRED = 7 << 16,
  CGSS_DEFECTIVE_CREDENTIAL = 10 << 16,
  CGSS_CREDENTIALS_EXPIRED = 11 << 16,

  CGSS_MUTUAL_FLAG = 2,
  CGSS_REPLAY_FLAG = 4,
  CGSS_SEQUENCE_FLAG = 8,
  CGSS_CONFIDENTIALITY_FLAG = 16,
  CGSS_INTEGRITY_FLAG = 32,

  CGSS_MAJOR_CODE = 1,
  CGSS_MECHANISM_CODE = 2,
};

// The functions, once they have been found.
struct cgss_library {
  uint32_t (*import_name)(uint32_t *, struct cgss_buffer *, const struct cgss_oid *, void **);
  uint32_t (*release_name)(uint32_t *, void **);
  uint32_t (*init_sec_context)(uint32_t *, void *, void **, void *, struct cgss_oid *, uint32_t,
                               uint32_t, void *, struct cgss_buffer *, struct cgss_oid **,
                               struct cgss_buffer *, uint32_t *, uint32_t *);
  uint32_t (*delete_sec_context)(uint32_t *, void **, struct cgss_buffer *);
  uint32_t (*wrap)(uint32_t *, void *, int, uint32_t, struct cgss_buffer *, int *,
                   struct cgss_buffer *);
  uint32_t (*unwrap)(uint32_t *, void *, struct cgss_buffer *, struct cgss_buffer *, int *,
                     uint32_t *);
  uint32_t (*release_buffer)(uint32_t *, struct cgss_buffer *);
  uint32_t (*display_status)(uint32_t *, uint32_t, int, struct cgss_oid *, uint32_t *,
                             struct cgss_buffer *);
};

// Loads the library `name` for good; 0, or -1 if there is none or it lacks a function.
static inline int cgss_load(const char *name, struct cgss_library *library) {
  void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) return -1;
  const struct {
    const char *symbol;
    void *place;
  } functions[] = {
      {"gss_import_name", &library->import_name},
      {"gss_release_name", &library->release_name},
      {"gss_init_sec_context", &library->init_sec_context},
      {"gss_delete_sec_context", &library->delete_sec_context},
      {"gss_wrap", &library->wrap},
      {"gss_unwrap", &library->unwrap},
      {"gss_release_buffer", &library->release_buffer},
      {"gss_display_status", &library->display_status},
  };
  for (size_t index = 0; index < sizeof functions / sizeof functions[0]; index++) {
    void *function = dlsym(handle, functions[index].symbol);
    if (function == NULL) return -1;
    memcpy(functions[index].place, &function, sizeof function);
  }
  return 0;
}

// GSS_C_NT_HOSTBASED_SERVICE: {1 2 840 113554 1 2 1 4} (RFC 2744, section 4.1).
static inline uint32_t cgss_import_service(const struct cgss_library *library, const void *text,
                                           size_t count, void **name, uint32_t *minor) {
  static char elements[] = "\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04";
  static const struct cgss_oid service = {sizeof elements - 1, elements};
  struct cgss_buffer buffer = {count, (void *)text};
  return library->import_name(minor, &buffer, &service, name);
}

static inline void cgss_release_name(const struct cgss_library *library, void **name) {
  uint32_t minor;
  library->release_name(&minor, name);
}

// One step by Kerberos 5, {1 2 840 113554 1 2 2} (RFC 1964, section 1), for the default credentials.
static inline uint32_t cgss_step(const struct cgss_library *library, void **context, void *name,
                                 uint32_t wanted, const void *token, size_t count,
                                 struct cgss_buffer *output, uint32_t *granted, uint32_t *minor) {
  static char elements[] = "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
  static struct cgss_oid kerberos = {sizeof elements - 1, elements};
  struct cgss_buffer input = {count, (void *)token};
  return library->init_sec_context(minor, NULL, context, name, &kerberos, wanted, 0, NULL, &input,
                                   NULL, output, granted, NULL);
}

static inline void cgss_delete_context(const struct cgss_library *library, void **context) {
  uint32_t minor;
  library->delete_sec_context(&minor, context, NULL);
}

static inline uint32_t cgss_wrap(const struct cgss_library *library, void *context,
                                 int confidentially, const void *bytes, size_t count,
                                 int *is_confidential, struct cgss_buffer *output,
                                 uint32_t *minor) {
  struct cgss_buffer input = {count, (void *)bytes};
  return library->wrap(minor, context, confidentially, 0, &input, is_confidential, output);
}

static inline uint32_t cgss_unwrap(const struct cgss_library *library, void *context,
                                   const void *token, size_t count, int *is_confidential,
                                   struct cgss_buffer *output, uint32_t *minor) {
  struct cgss_buffer input = {count, (void *)token};
  return library->unwrap(minor, context, &input, output, is_confidential, NULL);
}

static inline void cgss_release(const struct cgss_library *library, struct cgss_buffer *buffer) {
  uint32_t minor;
  library->release_buffer(&minor, buffer);
}

// The first message for a major status, or a mechanism's minor one (`kind`).
static inline uint32_t cgss_describe(const struct cgss_library *library, uint32_t status, int kind,
                                     struct cgss_buffer *text) {
  uint32_t minor, more = 0;
  return library->display_status(&minor, status, kind, NULL, &more, text);
}
