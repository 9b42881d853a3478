<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">
      <colorPalette>
        <paletteEntry value="0" label="void" color="#808080" alpha="255"/>
        <paletteEntry value="1" label="refined" color="#1b9e77" alpha="255"/>
        <paletteEntry value="2" label="refined from a filled height" color="#d95f02" alpha="255"/>
        <paletteEntry value="3" label="refined where an image shows nothing" color="#7570b3" alpha="255"/>
      </colorPalette>
    </rasterrenderer>
    <rasterresampler zoomedInResampler="bilinear" zoomedOutResampler="bilinear" maxOversampling="2"/>
  </pipe>
</qgis>
