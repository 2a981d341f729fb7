/// What is wrong at one place of a configuration file.
package struct Problem: Error, Hashable, Sendable {
  package let place: Place
  /// What it says there, and what was expected.
  package let text: String

  init(_ text: String, at place: Place) {
    self.text = text
    self.place = place
  }

  /// As compilers write it, so that editors find the place.
  package func description(in file: String) -> String {
    "\(file):\(place.line):\(place.column): \(text)"
  }
}

/// All that is wrong with a file, from its beginning to its end.
package struct Problems: Error, Hashable, Sendable {
  package let all: [Problem]

  init(_ all: [Problem]) {
    self.all = all.sorted {
      ($0.place.line, $0.place.column) < ($1.place.line, $1.place.column)
    }
  }
}
