#include <cstdio>

#include "runtime/base/strings.h"
#include "server/loadgen/canvas.h"

namespace trireme::loadgen {
namespace {

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string Hex(Color color) {
  char text[8];
  std::snprintf(text, sizeof text, "#%02x%02x%02x", color.red, color.green, color.blue);
  return text;
}

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

class SvgCanvas final : public Canvas {
 public:
  SvgCanvas(int width, int height)
      : svg_(StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", width, " ", height,
                    "\" width=\"", width, "\" height=\"", height,
                    "\" font-family=\"monospace\" font-size=\"10\">\n")) {}

  void Rect(Point corner, double width, double height, Color color) override {
    StrAppend(&svg_, "<rect x=\"", Number(corner.x), "\" y=\"", Number(corner.y), "\" width=\"",
              Number(width), "\" height=\"", Number(height), "\" fill=\"", Hex(color), "\"/>\n");
  }

  void Line(const std::vector<Point>& points, double width, Color color) override {
    StrAppend(&svg_, "<polyline fill=\"none\" stroke=\"", Hex(color), "\" stroke-width=\"",
              Number(width), "\" points=\"");
    for (const Point& point : points) StrAppend(&svg_, Number(point.x), ",", Number(point.y), " ");
    svg_ += "\"/>\n";
  }

  void Text(Point at, std::string_view text, Align align, Color color) override {
    const char* const anchor = align == Align::kLeft     ? "start"
                               : align == Align::kCenter ? "middle"
                                                         : "end";
    StrAppend(&svg_, "<text x=\"", Number(at.x), "\" y=\"", Number(at.y), "\" text-anchor=\"",
              anchor, "\" fill=\"", Hex(color), "\">", Escaped(text), "</text>\n");
  }

  std::string Finish() override { return svg_ + "</svg>\n"; }

 private:
  std::string svg_;
};

}  // namespace

std::unique_ptr<Canvas> MakeSvgCanvas(int width, int height) {
  return std::make_unique<SvgCanvas>(width, height);
}

}  // namespace trireme::loadgen
