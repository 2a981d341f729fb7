// libyaml: what a document says, event by event.
#pragma once
#include <stddef.h>
#include <yaml.h>

/// The text of a scalar event, which need not end with a NUL.
static inline const unsigned char *clx_yaml_text(const yaml_event_t *event, size_t *count) {
  *count = event->data.scalar.length;
  return event->data.scalar.value;
}
static inline int clx_yaml_is_plain(const yaml_event_t *event) {
  return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}
/// Whether the node of a scalar, sequence or mapping event has an anchor or a tag.
static inline int clx_yaml_is_decorated(const yaml_event_t *event) {
  switch (event->type) {
  case YAML_SCALAR_EVENT: return event->data.scalar.anchor || event->data.scalar.tag;
  case YAML_SEQUENCE_START_EVENT:
    return event->data.sequence_start.anchor || event->data.sequence_start.tag;
  case YAML_MAPPING_START_EVENT:
    return event->data.mapping_start.anchor || event->data.mapping_start.tag;
  default: return 0;
  }
}
