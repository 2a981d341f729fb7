/// Text of others that people are shown: names that servers have told, and those of files.
extension String {
  /// The same with a `?` for what a terminal would obey (ECMA-48: C0, DEL, C1), and for what turns the
  /// direction or the line of the text around it.
  var withoutControls: String {
    String(String.UnicodeScalarView(unicodeScalars.map { $0.isHarmless ? $0 : "?" }))
  }

  /// The same of the characters alone that have one column everywhere.
  var inColumns: String {
    String(
      String.UnicodeScalarView(
        unicodeScalars.map { (" "..."~").contains($0) ? $0 : "?" }))
  }
}

extension Unicode.Scalar {
  fileprivate var isHarmless: Bool {
    switch properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: false
    default: true
    }
  }
}
