startTheme();
const curves = readData("curve-data");
startCurves(curves);
startStudies(curves);
if (document.getElementById("list")) new Browser(readData("trace-data"), readData("picture-data"));
