/// What is counted or measured under one name, with one sample for each combination of its labels.
struct MetricFamily: Hashable {
  enum Kind: String { case counter, gauge, histogram }

  struct Label: Hashable {
    let name: String
    let value: String

    init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }

  struct Sample: Hashable {
    /// Behind the name of the family.
    var suffix = ""
    var labels: [Label] = []
    /// As it is written.
    let value: String

    init(_ value: some BinaryInteger, _ labels: Label..., suffix: String = "") {
      self.init("\(value)", labels, suffix: suffix)
    }

    init(_ value: String, _ labels: [Label], suffix: String = "") {
      self.suffix = suffix
      self.labels = labels
      self.value = value
    }
  }

  /// With the prefix of all.
  let name: String
  let kind: Kind
  let help: String
  let samples: [Sample]

  /// - Parameter name: without the prefix.
  init(_ name: String, _ kind: Kind, _ help: String, _ samples: [Sample]) {
    self.name = "sluice_" + name
    self.kind = kind
    self.help = help
    self.samples = samples
  }

  /// Of one sample without labels.
  init(_ name: String, _ kind: Kind, _ help: String, _ value: some BinaryInteger) {
    self.init(name, kind, help, [Sample(value)])
  }
}

// MARK: Text

extension MetricFamily {
  /// The content type of `text`: Prometheus's text format, version 0.0.4.
  static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  /// All families that have samples, one line for each of those and two before them.
  static func text(_ families: [MetricFamily]) -> String {
    var text = ""
    for family in families where !family.samples.isEmpty { family.write(to: &text) }
    return text
  }

  private func write(to text: inout String) {
    text += "# HELP \(name) \(Self.escaped(help, quotes: false))\n# TYPE \(name) \(kind.rawValue)\n"
    for sample in samples {
      text += name + sample.suffix
      if !sample.labels.isEmpty {
        let labels = sample.labels.map { "\($0.name)=\"\(Self.escaped($0.value, quotes: true))\"" }
        text += "{" + labels.joined(separator: ",") + "}"
      }
      text += " \(sample.value)\n"
    }
  }

  private static func escaped(_ text: String, quotes: Bool) -> String {
    var escaped = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": escaped += "\\\\"
      case "\n": escaped += "\\n"
      case "\"" where quotes: escaped += "\\\""
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }
}
