startTheme();
const curves = readData("curve-data");
startCurves(curves);
startStudies(curves);
startTables();
const browsing = document.getElementById("list") ? new Browser(readData("trace-data"), readData("picture-data")) : null;
startPlaces(browsing);
performance.mark("iapo-ready");
