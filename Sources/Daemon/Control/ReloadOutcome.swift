/// What has come of reading the settings again: the members of the answer to `reload`.
struct ReloadOutcome: Hashable, ControlMessage {
  /// Settings that say something else than before and are in force now, by the names of their options.
  /// Lists are read again whether they have changed or not, and are none of them.
  var adopted: [String] = []
  /// Those that say something else and take a restart.
  var restart: [String] = []
  /// Why everything is as it was; nil where it is not. It may be several lines.
  var problem: String?
}

extension ReloadOutcome: CustomStringConvertible {
  var description: String {
    if let problem { return "going on as before: \(problem)" }
    let changes =
      adopted.isEmpty
      ? "read the settings and lists again" : "in force now: \(adopted.joined(separator: ", "))"
    return restart.isEmpty
      ? changes
      : "\(changes)\nwhen the run is started anew: \(restart.joined(separator: ", "))"
  }
}
